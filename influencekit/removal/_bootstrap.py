"""How far scores of a linear model vary with its training rows: weights, and no refit.

Each replicate draws weights of the rows (Bayesian bootstrap: exponential weights e_i with mean 1),
takes one Newton step to coefficients θ*, and has the Hessian there.  A row j counts in its own
replicate once, whatever weight it drew: with its curvature rows U and its pull p at θ*, in
coordinates in which the replicate's Hessian is I and a = 1 - e_j,

    first             (I + a UᵀU)⁻² p
    leverage, newton  (I - e_j UᵀU)⁻¹ (I + a UᵀU)⁻¹ p .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from influencekit.removal._linear_fit import LinearFit
from influencekit.removal._whitened import UNDETERMINED, Whitened, whitening

__all__ = ["N_BOOTSTRAP", "standard_deviations"]

#: Replicates.
N_BOOTSTRAP = 200


def standard_deviations(
    fit: LinearFit,
    damping: float,
    order: str,
    effects: Callable[[Whitened, np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Standard deviations of scores over samples of the training rows.

    Parameters
    ----------
    fit : LinearFit
    damping : float
    order : {"first", "leverage", "newton"}
    effects : callable
        ``effects(white, steps)`` gives scores (m, n) of a replicate from the steps (n, q) of rows.
    rng : Generator

    Returns
    -------
    ndarray of shape (m, n)
    """
    factors, start = fit.factors(fit.outputs), fit.gradient(fit.theta, fit.weights)
    mean: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    for b in range(1, N_BOOTSTRAP + 1):
        draws = rng.exponential(size=len(fit.X))
        draws *= fit.weights.sum() / (fit.weights @ draws)
        weights = fit.weights * draws
        basis = whitening(fit.hessian(factors, weights))
        # θ* = θ - H*⁻¹ (g* - g): a model that is not at its optimum stays as far from it
        pull = (fit.gradient(fit.theta, weights) - start).reshape(-1)
        theta = fit.theta - (basis @ (basis.T @ pull)).reshape(fit.theta.shape)
        own = replace(fit, weights=weights, theta=theta)
        matrix = own.hessian(own.factors(own.outputs), weights, damping)
        white = Whitened(own, whitening(matrix))
        scores = effects(white, _steps(white, fit.weights, draws, order))
        # Welford: the mean of the squares would lose small deviations
        change = scores - mean
        mean = mean + change / b
        squares = squares + change * (scores - mean)
    return np.sqrt(np.asarray(squares) / (N_BOOTSTRAP - 1))


def _steps(white: Whitened, weights: np.ndarray, draws: np.ndarray, order: str) -> np.ndarray:
    """Steps (n, q) of rows that count once in a sample in which the others have their draws."""
    found = np.zeros((len(weights), white.basis.shape[1]))
    for some, P in white.blocks():
        p = np.einsum("ikq,ik->iq", P, weights[some, None] * white.slopes[some])
        roots = np.sqrt(weights[some])[:, None, None]
        U = roots * (white.factors[some].transpose(0, 2, 1) @ P)
        values, axes = np.linalg.eigh(U @ U.transpose(0, 2, 1))
        share = _share(np.maximum(values, 0.0), draws[some, None], order)
        # F(UᵀU) p = p + Uᵀ Q diag((F(h) - 1) / h) Qᵀ U p
        inner = np.einsum("irs,irq,iq->is", axes, U, p)
        found[some] = p + np.einsum("irq,irs,is->iq", U, axes, share * inner)
    return found


def _share(h: np.ndarray, draw: np.ndarray, order: str) -> np.ndarray:
    """``(F(h) - 1) / h`` of an eigenvalue h of a leverage block."""
    once = 1 + (1 - draw) * h
    if order == "first":
        # (1 + ah)⁻² - 1 = -ah (2 + ah) / (1 + ah)²
        return -(1 - draw) * (1 + once) / once**2
    left = 1 - draw * h
    # 1 / ((1 + ah)(1 - eh)) - 1 = h (2e - 1 + a e h) / (...)
    kept = left > UNDETERMINED
    found = (2 * draw - 1 + (1 - draw) * draw * h) / np.where(kept, once * left, 1.0)
    return np.where(kept, found, -1 / np.where(h > 0, h, 1.0))
