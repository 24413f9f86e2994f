"""Groups that are removed as a whole: one Newton step for each, not a sum over its rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from influencekit.attributors._slope_output import SlopeOutput
from influencekit.attributors.influence._influence_function import InfluenceFunction
from influencekit.data._examples import each
from influencekit.groups._properties import (
    compare_index,
    named_properties,
    one_finite_number,
    resolve_property,
)
from influencekit.removal._effects import read_queries
from influencekit.removal._without import Removal
from influencekit.utils._suggest import did_you_mean
from influencekit.utils._torch import with_gradients

__all__ = ["RemovesGroups", "group_effects", "property_effects", "removes_whole", "set_order"]


def set_order(attributor: Any, order: str | None) -> None:
    """Give an attributor that is held the order of removal, if one is asked for.

    Raises
    ------
    ValueError
        If it has none.
    """
    if order is None:
        return
    if not isinstance(attributor, InfluenceFunction):
        raise ValueError(
            f"removal_order={order!r}: {type(attributor).__name__} scores to an order of its own; "
            f"accepted is None, or InfluenceFunction() as the attributor."
        )
    attributor.set_params(removal_order=order)


def removes_whole(attributor: Any, order: str | None = None) -> bool:
    """Whether an attributor, if given this order, removes a group by a step of its own."""
    chosen = _chosen(attributor)
    return isinstance(chosen, InfluenceFunction) and (order or chosen.removal_order) == "newton"


def group_effects(grouped: Any, queries: Any) -> np.ndarray:
    """Effects of the groups on outputs, (n_queries, n_groups), the mean over models."""
    chosen, n_groups = _chosen(grouped.attributor_), grouped.n_groups_
    triples = zip(chosen.fitted_, chosen._rows, each(queries), strict=True)
    parts = [fit.group_scores(own, grouped.labels_[rows], n_groups) for fit, rows, own in triples]
    return np.mean(parts, axis=0)


def property_effects(grouped: Any, queries: Any) -> tuple[list[float], np.ndarray]:
    """Properties, and what they lose with each group, (n_properties, n_groups)."""
    chosen, n_groups = _chosen(grouped.attributor_), grouped.n_groups_
    values, effects = [], []
    for given in named_properties(grouped.property).values():
        compare_index(queries.index, given)
        before, after = [], []
        for fitted, rows, own in zip(chosen.fitted_, chosen._rows, each(queries), strict=True):
            steps = fitted.white.group_steps("newton", grouped.labels_[rows], n_groups)
            read = read_queries(fitted.white, own, SlopeOutput())
            value = partial(_value, resolve_property(fitted.task, given), own.targets)
            before.append(value(read.outputs))
            after.append([value(read.moved(step[None])[:, 0]) for step in steps])
        values.append(float(np.mean(before)))
        effects.append(values[-1] - np.mean(after, axis=0))
    return values, np.stack(effects)


def _value(function: Any, targets: Any, outputs: torch.Tensor) -> float:
    with torch.no_grad():
        return one_finite_number(function(outputs, targets)).item()


def _chosen(attributor: Any) -> Any:
    while hasattr(attributor, "best_attributor_"):
        attributor = attributor.best_attributor_
    return attributor


class RemovesGroups:
    """``predict_without`` of a fitted group attributor."""

    attributor_: Any
    curvature: str
    labels_: np.ndarray
    group_names_: np.ndarray
    property: Any
    task_: Any

    @with_gradients
    def predict_without(
        self,
        groups: Any,
        X: Any,
        y: Any = None,
        *,
        refit: bool | str = "auto",
        tolerance: float = 0.05,
    ) -> Removal:
        """What a linear model would predict had it been trained without some groups.

        Parameters
        ----------
        groups : str or list of str
            Names among ``group_names_``, which are removed together.
        X : array-like, DataFrame, or sparse matrix of n_test examples
        y : array-like of shape (n_test,), default=None
            Targets of X, for the ``property``.
        refit : bool or "auto", default="auto"
        tolerance : float, default=0.05
            As in :meth:`influencekit.InfluenceFunction.predict_without`.

        Returns
        -------
        Removal
            With the model's ``properties``, evaluated on X and y.
        """
        check_is_fitted(self, "labels_")
        chosen = _chosen(self.attributor_)
        if self.curvature != "points" or not isinstance(chosen, InfluenceFunction):
            raise ValueError(
                f"predict_without: got attributor={type(chosen).__name__} with "
                f"curvature={self.curvature!r}; accepted is InfluenceFunction with 'points'."
            )
        given = {} if self.property is None else named_properties(self.property)
        functions = {str(n): resolve_property(self.task_, one) for n, one in given.items()}
        mask = np.isin(self.labels_, self._positions_of(groups))
        return chosen.predict_without(
            mask, X, y, refit=refit, tolerance=tolerance, properties=functions
        )

    def _positions_of(self, groups: Any) -> list[int]:
        names = list(map(str, self.group_names_))
        given = [groups] if isinstance(groups, (str, int, float)) else list(groups)
        for name in map(str, given):
            if name not in names:
                raise ValueError(
                    f"groups: got {name!r}; accepted are names among {names[:20]}."
                    f"{did_you_mean(name, names)}"
                )
        return [names.index(str(name)) for name in given]
