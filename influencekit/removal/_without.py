"""A linear model without some of its rows: what it predicts, and how wrong that may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from influencekit.data._examples import Examples
from influencekit.models.losses._base import class_positions
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.removal._bound import Certificate, certificate
from influencekit.removal._goal import scalar_property
from influencekit.removal._linear_fit import LinearFit, row_inputs
from influencekit.removal._whitened import Whitened

__all__ = ["Removal", "model_without", "newton_step", "refit_without", "removed_rows"]

#: Newton steps of a refit.
MOST_STEPS = 100
#: Length of the last Newton step, relative to the root of the objective, at which a refit ends.
SOLVED = 1e-11
#: Rounding of a probability.
ROUNDING_OF_P = 1e-14


@dataclass
class Removal:
    """A linear model without some of its rows.

    Attributes
    ----------
    outputs : ndarray of shape (n_test, n_classes), (n_test,) or (n_test, n_outputs)
        As ``predict_proba``, or ``predict`` of a regressor; for a classifier without probabilities
        its raw scores.
    bound : ndarray of the same shape
        The model that is refitted without the rows has outputs no further away than this.
    coef, intercept : ndarray
        Coefficients of the model, in the shape of ``coef_`` and ``intercept_``.
    properties : dict of str to float
    refitted : bool
        Whether the objective without the rows was solved; else it is one Newton step.
    """

    outputs: np.ndarray
    bound: np.ndarray
    coef: np.ndarray
    intercept: Any
    refitted: bool
    properties: dict[str, float] = field(default_factory=dict)


def model_without(
    white: Whitened,
    rows: np.ndarray,
    queries: Examples,
    *,
    refit: bool | str = "auto",
    tolerance: float = 0.05,
    properties: Mapping[str, Callable] | None = None,
) -> Removal:
    """One Newton step without some rows, or a refit.

    Parameters
    ----------
    white : Whitened
        The fitted model, without damping.
    rows : ndarray of int
    queries : Examples
    refit : bool or "auto", default="auto"
        "auto" refits where the bound exceeds ``tolerance`` times the largest change of an output.
    tolerance : float, default=0.05
    properties : mapping of str to callable, default=None
        ``property(outputs, targets) -> scalar Tensor``.

    Returns
    -------
    Removal
    """
    fit = white.fit
    weights = fit.weights.copy()
    weights[rows] = 0.0
    _check_classes(fit, weights)
    X = fit.features(row_inputs(queries))
    theta = newton_step(white, rows)
    found = certificate(white, theta, weights)
    result = _result(found, theta, X, False)
    if refit == "auto":
        change = np.abs(result.outputs - _response(fit, X @ fit.theta.T)).max(initial=0.0)
        refit = not result.bound.max(initial=0.0) <= tolerance * change + 1e-9
    if refit:
        theta, found = _refitted(white, theta, weights, found)
        result = _result(found, theta, X, True)
    raw = torch.from_numpy(X @ theta.T)
    for name, function in (properties or {}).items():
        value = function(raw, queries.targets)
        result.properties[name] = scalar_property(value, f"properties[{name!r}]")
    return result


def newton_step(white: Whitened, rows: np.ndarray) -> np.ndarray:
    """Coefficients (k, d) after one Newton step without some rows."""
    fit = white.fit
    return fit.theta + (white.basis @ white.step(rows)).reshape(fit.theta.shape)


def refit_without(white: Whitened, rows: np.ndarray) -> np.ndarray:
    """Coefficients (k, d) that solve the objective without some rows."""
    weights = white.fit.weights.copy()
    weights[rows] = 0.0
    theta = newton_step(white, rows)
    return _refitted(white, theta, weights, certificate(white, theta, weights))[0]


def removed_rows(rows: Any, n_train: int) -> np.ndarray:
    """Positions of rows that are given as positions or as a mask.

    Parameters
    ----------
    rows : int, array-like of int, or of bool of shape (n_train,)
    n_train : int

    Returns
    -------
    ndarray of int

    Raises
    ------
    ValueError
    """
    given = np.atleast_1d(np.asarray(rows))
    if given.dtype == bool and given.shape == (n_train,):
        return np.flatnonzero(given)
    whole = given.ndim == 1 and np.issubdtype(given.dtype, np.integer)
    if not whole or (given < 0).any() or (given >= n_train).any():
        raise ValueError(
            f"rows: got {rows!r:.80}; accepted are positions of training rows from 0 to "
            f"{n_train - 1}, or a mask of {n_train:,} booleans."
        )
    return np.unique(given)


def _check_classes(fit: LinearFit, weights: np.ndarray) -> None:
    """Refuse to remove all rows, or all rows of a class."""
    if not (weights > 0).any():
        raise ValueError("rows: all training rows are removed; accepted is a part of them.")
    if fit.task.problem_type != "classification":
        return
    positions = class_positions(fit.targets).numpy()
    lost = np.setdiff1d(positions[fit.weights > 0], positions[weights > 0])
    if len(lost):
        classes = fit.task.classes
        name = lost[0] if classes is None else classes[lost[0]]
        name = name.item() if isinstance(name, np.generic) else name
        raise ValueError(
            f"rows: no row of class {name!r} is left without them, so the refitted model would be "
            f"of another kind. Remove fewer rows of that class."
        )


def _result(found: Certificate, theta: np.ndarray, X: np.ndarray, refitted: bool) -> Removal:
    """Outputs at some coefficients, with their bound."""
    fit, z = found.white.fit, X @ theta.T
    bounds = found.bounds(found.white.rows(X), z)
    raw = fit.raw(theta)
    coef = raw[:, : len(fit.means)]
    intercept = raw[:, -1] if fit.intercept else np.zeros(len(raw))
    flat = _has_one_row(fit)
    return Removal(
        outputs=_response(fit, z),
        bound=_response_bound(fit, z, bounds),
        coef=coef[0] if flat else coef,
        intercept=intercept[0] if flat else intercept,
        refitted=refitted,
    )


def _refitted(
    white: Whitened, theta: np.ndarray, weights: np.ndarray, found: Certificate
) -> tuple[np.ndarray, Certificate]:
    """Solve the objective by Newton's method, halving steps that do not lower it."""
    fit = white.fit
    value = _objective(fit, theta, weights)
    start = _objective(fit, fit.theta, weights)
    if not value <= start:  # the step went the wrong way: begin at the fitted model
        theta, value = fit.theta, start
        found = certificate(white, theta, weights)
    for _ in range(MOST_STEPS):
        if np.linalg.norm(found.decrement) <= SOLVED * (1 + np.sqrt(abs(value))):
            break
        step = -(found.white.basis @ found.decrement).reshape(theta.shape)
        moved = _halved(fit, theta, step, weights, value)
        if moved is None:  # rounding: nothing lower is found
            break
        theta, value = moved
        found = certificate(white, theta, weights)
    return theta, found


def _halved(
    fit: LinearFit, theta: np.ndarray, step: np.ndarray, weights: np.ndarray, value: float
) -> tuple[np.ndarray, float] | None:
    for power in range(40):
        moved = theta + 0.5**power * step
        lower = _objective(fit, moved, weights)
        if lower < value:
            return moved, lower
    return None


def _objective(fit: LinearFit, theta: np.ndarray, weights: np.ndarray) -> float:
    with torch.no_grad():
        losses = fit.task.loss(torch.from_numpy(fit.X @ theta.T), fit.targets).numpy()
    # Σ_i w_i loss_i + ½ θᵀ R θ
    return float(weights @ losses + np.einsum("kd,kde,ke->", theta, fit.penalty, theta) / 2)


def _response(fit: LinearFit, z: np.ndarray) -> np.ndarray:
    """Probabilities, predictions or raw scores from outputs (m, k)."""
    outputs, loss = torch.from_numpy(z), fit.task.loss
    if fit.task.problem_type == "classification":
        return _probabilities(fit, z) if _has_probabilities(fit) else z
    found = loss.prediction(outputs).numpy()
    return found[:, 0] if _has_one_row(fit) else found


def _has_one_row(fit: LinearFit) -> bool:
    """Whether the estimator's ``coef_`` is one row, as for a single target of shape (n,)."""
    return np.ndim(getattr(fit.task.estimator, "coef_", fit.theta)) == 1


def _has_probabilities(fit: LinearFit) -> bool:
    try:
        fit.task.loss.predict_proba(torch.zeros(1, 2))
    except TypeError:
        return False
    return hasattr(fit.task.estimator, "predict_proba")


def _probabilities(fit: LinearFit, z: np.ndarray) -> np.ndarray:
    return fit.task.loss.predict_proba(torch.from_numpy(z)).numpy()


def _response_bound(fit: LinearFit, z: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Bound of what :func:`_response` gives, from that of the outputs."""
    if fit.task.problem_type != "classification":
        ends = [_response(fit, z + sign * bounds) for sign in (-1.0, 1.0)]
        return np.max([np.abs(end - _response(fit, z)) for end in ends], axis=0)
    if not _has_probabilities(fit):
        return bounds
    if isinstance(fit.task.loss, CrossEntropy) or z.shape[1] == 1:
        return _odds_bound(_log_odds(fit, z), bounds) + ROUNDING_OF_P
    p, columns = _probabilities(fit, z), _odds_bound(z, bounds)
    totals, slack = _sigmoid(z).sum(1, keepdims=True), columns.sum(1, keepdims=True)
    safe = np.where(totals > slack, totals - slack, np.inf)
    # |p' / s' - p / s| ≤ (|p' - p| + p/s |s' - s|) / s'
    return np.where(totals > slack, (columns + p * slack) / safe, 1.0) + ROUNDING_OF_P


def _log_odds(fit: LinearFit, z: np.ndarray) -> np.ndarray:
    """Log-odds (m, n_classes) of each class."""
    if z.shape[1] == 1:
        return np.c_[-z, z]
    loss, outputs = fit.task.loss, torch.from_numpy(z)
    classes = [torch.full((len(z),), c) for c in range(z.shape[1])]
    return np.stack([loss.margin(outputs, positions).numpy() for positions in classes], 1)


def _odds_bound(odds: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Largest change of probabilities whose log-odds change by at most the bounds."""
    p = _sigmoid(odds)
    return np.maximum(_sigmoid(odds + bounds) - p, p - _sigmoid(odds - bounds))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return torch.sigmoid(torch.from_numpy(z)).numpy()
