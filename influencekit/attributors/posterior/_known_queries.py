"""Scores of the queries given to fit, looked up by their content."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from influencekit.base import Fitted
from influencekit.data._examples import Examples, each, open_examples
from influencekit.data._sources import leaves
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils.validation import present

__all__ = ["KnownQueries", "check_subset_outputs", "open_queries"]

_BATCH = 256


class KnownQueries(Fitted):
    """A table of scores with the queries that its rows belong to.

    Parameters
    ----------
    queries : Examples
    table : ndarray of shape (n_query, n_train)
    """

    def __init__(self, queries: Examples, table: np.ndarray):
        self.table = table
        self.targets = present(_target_keys(queries), "query targets")
        self.positions: dict[bytes, list[int]] = {}
        for i, key in enumerate(_input_keys(queries)):
            self.positions.setdefault(key, []).append(i)

    def scores(self, queries: Examples) -> np.ndarray:
        targets = _target_keys(queries)
        found = [self._position(i, key, targets) for i, key in enumerate(_input_keys(queries))]
        return self.table[found]

    def explaining(self, output: Any) -> Self:
        raise ValueError(
            f"output: got {output!r}, but the retrained models were evaluated on another output. "
            "Fit again, with this output= of the attributor."
        )

    def _position(self, row: int, key: bytes, targets: list[bytes] | None) -> int:
        """Row of a query in the table; its target must be the same if it has one."""
        known = self.positions.get(key, [])
        same = [i for i in known if targets is None or self.targets[i] == targets[row]]
        if not same:
            what = "its target in y_query was different" if known else "it is not in X_query"
            raise ValueError(
                f"X: row {row} was not given to fit ({what}). Scores that learn from retrained "
                f"outputs are known only for X_query and y_query: add the row there, and fit again."
            )
        return row if row in same else same[0]


def open_queries(models: Any, X_query: Any, y_query: Any) -> Any:
    """The queries that retrained models are asked about; refused where they are not complete.

    Parameters
    ----------
    models : Task or TaskList
    X_query, y_query : array-like

    Returns
    -------
    Examples or ExamplesList

    Raises
    ------
    ValueError
        If there are none, or they have no targets.
    """
    if X_query is None:
        raise ValueError(
            "X_query: got None; scores that learn from retrained outputs are known for the "
            "queries that these were asked about. Give them: fit(model, X, y, X_query=X_test, "
            "y_query=y_test)."
        )
    queries = open_examples(models, X_query, y_query, require_y=False, name="X_query")
    if each(queries)[0].targets is None:
        raise ValueError(
            "y_query: got None; retrained models must be compared on the same targets. Give "
            "y_query, for instance model.predict(X_query)."
        )
    return queries


def check_subset_outputs(subset_outputs: Any) -> None:
    """Refuse what is given as outputs of trainings and is none.

    Raises
    ------
    TypeError
    """
    if not isinstance(subset_outputs, SubsetOutputs):
        raise TypeError(
            f"subset_outputs: got {type(subset_outputs).__name__}; accepted is SubsetOutputs, "
            "from retrain_on_subsets or SubsetOutputs.load."
        )


def _input_keys(queries: Examples) -> list[bytes]:
    keys = []
    for batch in queries.batches(_BATCH):
        parts = [t.detach().cpu().contiguous() for _, t in leaves(batch.inputs)]
        keys += [b"".join(p[i].numpy().tobytes() for p in parts) for i in range(len(parts[0]))]
    return keys


def _target_keys(queries: Examples) -> list[bytes] | None:
    if queries.targets is None:
        return None
    return [row.tobytes() for row in queries.targets.detach().cpu().numpy()]
