"""Scores of influence functions: coefficients, leverage, and how far they vary with the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from influencekit._intervals import spread_of_models
from influencekit.attributors.influence._fitted_influence import FittedInfluence
from influencekit.attributors.influence._fitted_removal import coefficient_effects
from influencekit.attributors.influence._removes_rows import check_own_hessian, coefficient_scores
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.models._task import Task
from influencekit.removal._bootstrap import standard_deviations
from influencekit.removal._coefficients import coefficient_rows
from influencekit.removal._effects import read_queries
from influencekit.removal._linear_fit import row_inputs
from influencekit.removal._whitened import Whitened
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients

__all__ = ["LinearScores"]


class LinearScores(BaseAttributor):
    """What influence functions know more of linear models than of others."""

    at: str
    output: Any
    fitted_: Sequence[FittedInfluence]

    @with_gradients
    def score(self, X: Any, y: Any = None, *, return_std: bool = False) -> Any:
        if isinstance(self.output, str) and self.output == "coef":
            scores = coefficient_scores(self, X)
            for fitted in self.fitted_:
                fitted.warn_of_leverage()
            return (scores, coefficient_deviations(self, X)) if return_std else scores
        return super().score(X, y, return_std=return_std)

    def _all_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        scores = super()._all_scores(queries)
        for fitted in self.fitted_ if self.at == "model" else []:
            fitted.warn_of_leverage()
        return scores

    def _all_stds(self, queries: Examples | ExamplesList) -> np.ndarray:
        return score_deviations(self, queries)

    @property
    def _averages(self) -> bool:
        return True


def score_deviations(attributor: Any, queries: Any) -> np.ndarray:
    """Standard deviations (n_queries, n_train) of scores, over rows or over several models."""
    fitted = attributor.fitted_
    if len(fitted) > 1 or not _is_linear(fitted[0].task):
        return spread_of_models(attributor, queries)
    own = each(queries)[0]
    read = read_queries(fitted[0].undamped, own, attributor.output)
    features = fitted[0].linear.features(row_inputs(own))

    def effects(white: Whitened, steps: np.ndarray) -> np.ndarray:
        outputs = torch.from_numpy(features @ white.fit.theta.T)
        moved = replace(read, rows=white.rows(features), outputs=outputs)
        newton = attributor.removal_order == "newton"
        return moved.evaluated(steps) if newton else moved.linearized(steps)

    return _bootstrapped(attributor, effects)


def coefficient_deviations(attributor: Any, names: Any) -> np.ndarray:
    """The same of coefficients given by names or positions, (n_coefficients, n_train)."""
    check_is_fitted(attributor, "fitted_")
    if len(attributor.fitted_) > 1:
        raise ValueError(
            f"return_std: output='coef' was fitted to {len(attributor.fitted_)} models; accepted "
            f"is one. Fit it to each of them by itself."
        )
    fitted = attributor.fitted_[0]
    picked = coefficient_rows(fitted.linear, fitted.task, names)
    return _bootstrapped(attributor, lambda *given: coefficient_effects(*given)[picked])


def _is_linear(task: Task) -> bool:
    layers = list(task.module.children())
    return task.convex and len(layers) == 1 and isinstance(layers[0], torch.nn.Linear)


def _bootstrapped(attributor: Any, effects: Any) -> np.ndarray:
    fitted = attributor.fitted_[0]
    check_own_hessian(attributor, "return_std", fitted.task)
    rng = np.random.default_rng(draw_seed(attributor.random_state))
    found = standard_deviations(
        fitted.linear, fitted.damping, attributor.removal_order, effects, rng
    )
    return attributor._spread(found, attributor._rows[0])
