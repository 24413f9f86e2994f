"""Models that are retrained for values, and what explains them without."""

from __future__ import annotations

from benchmarks import problems
from benchmarks.problems import trees
from influencekit import InfluenceFunction, SubsetOutputs, TreeInfluence
from influencekit.values import DataOOB, KNNShapley


def loaded(name, table, seed, n_query):
    """Fitted model, data, and what explains it without trainings."""
    if table is None:
        found = problems.load(f"table/{name}", seed)
        data = (*found.train, found.X_test[:n_query], found.y_test[:n_query])
        return found.fit(), data, [InfluenceFunction(), KNNShapley()]
    data = trees.split(table, 300, n_query)
    model = trees.model(name, data[1].dtype.kind != "f").fit(*data[:2])
    return model, data, [TreeInfluence(), KNNShapley(), *([DataOOB()] if "Forest" in name else [])]


def first_of(found, n: int) -> SubsetOutputs:
    """The first trainings of several."""
    return SubsetOutputs(found.masks[:n], found.outputs[:n], found.seeds[:n])
