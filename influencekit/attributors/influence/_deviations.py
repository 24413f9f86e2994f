"""How far the scores of a linear model vary with its training rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from influencekit._intervals import spread_of_models
from influencekit.attributors.influence._fitted_removal import coefficient_effects
from influencekit.attributors.influence._removes_rows import check_own_hessian
from influencekit.data._examples import each
from influencekit.models._task import Task
from influencekit.removal._bootstrap import standard_deviations
from influencekit.removal._coefficients import coefficient_rows
from influencekit.removal._effects import read_queries
from influencekit.removal._linear_fit import row_inputs
from influencekit.removal._whitened import Whitened
from influencekit.utils._random import draw_seed

__all__ = ["coefficient_deviations", "score_deviations"]

#: Changes of an output from which on their squares are not computed.
_OVERFLOWS = 1e100


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
        if attributor.removal_order != "newton":
            return moved.linearized(steps)
        found = moved.evaluated(steps)
        # without a row that holds the others down, the exponential of an output may overflow
        sound = np.abs(found) < _OVERFLOWS
        return found if sound.all() else np.where(sound, found, moved.linearized(steps))

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
