"""How far scores of a linear model vary with its training rows: weights, and no refit.

Each replicate draws weights of the rows (Bayesian bootstrap: exponential weights e_i with mean 1),
takes one Newton step to coefficients θ*, and has the Hessian there.  The draws stand for rows of
another sample, which the model has not seen, so the step has each row's slope g̃ at its held-out
output: slopes at the model's own outputs are too small, by 1 - h for a leverage h,

    θ* = θ - H̃*⁻¹ Σ_i (e_i - 1) w_i g̃_i x_iᵀ ,

and the larger of both curvatures, which does not overshoot.  A row j counts in its own replicate
once, whatever weight it drew: with its curvature rows U, its pull p at θ*, the pull p̃ at θ* that
the step knew of, in coordinates in which the replicate's Hessian is I and a = 1 - e_j,

    pull at weight 1  p₁ = p - a UᵀU (I + a UᵀU)⁻¹ p̃
    first             (I + a UᵀU)⁻¹ p₁
    leverage, newton  (I - e_j UᵀU)⁻¹ p₁ .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from influencekit.removal._linear_fit import LinearFit
from influencekit.removal._whitened import (
    UNDETERMINED,
    Whitened,
    decomposed,
    whitened,
    whitening,
)

__all__ = ["N_BOOTSTRAP", "standard_deviations"]

#: Replicates.
N_BOOTSTRAP = 200
#: Growth of the largest root of a row's curvature that another sample may bring.
_WILD = 10.0
_HALVINGS = 60


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
    slopes, factors = _held_out(fit)
    largest = _WILD * _sizes(fit.factors(fit.outputs)).max()
    mean: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    for b in range(1, N_BOOTSTRAP + 1):
        draws = rng.exponential(size=len(fit.X))
        draws *= fit.weights.sum() / (fit.weights @ draws)
        weights = fit.weights * draws
        basis = whitening(fit.hessian(factors, weights))
        # a model that is not at its optimum stays as far from it
        pull = (((weights - fit.weights)[:, None] * slopes).T @ fit.X).reshape(-1)
        step, curved = _tame(fit, -(basis @ (basis.T @ pull)).reshape(fit.theta.shape), largest)
        own = replace(fit, weights=weights, theta=fit.theta + step)
        white = decomposed(own, own.hessian(curved, weights, damping))
        # g̃ + S̃ Δz
        known = slopes + np.einsum("iar,ibr,ib->ia", factors, factors, fit.X @ step.T)
        scores = effects(white, _steps(white, known, fit.weights, draws, order))
        # Welford: the mean of the squares would lose small deviations
        change = scores - mean
        mean = mean + change / b
        squares = squares + change * (scores - mean)
    return np.sqrt(np.asarray(squares) / (N_BOOTSTRAP - 1))


def _held_out(fit: LinearFit) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (n, k) of rows at the outputs of the model without them, and curvatures (n, k, r)."""
    white = whitened(fit)
    steps = white.steps("newton")
    moved = [np.einsum("ikq,iq->ik", P, steps[some]) for some, P in white.blocks()]
    outputs = fit.outputs + np.concatenate(moved)
    factors = fit.factors(outputs)
    sizes, before = _sizes(factors), _sizes(white.factors)
    tame = sizes <= _WILD * before.max()
    slopes = fit.slopes(np.where(tame[:, None], outputs, fit.outputs))
    larger = tame & (sizes > before)
    return slopes, np.where(larger[:, None, None], factors, white.factors)


def _tame(fit: LinearFit, step: np.ndarray, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """A step, halved until no exponential of an output runs away, and the curvatures after it."""
    for _ in range(_HALVINGS):
        factors = fit.factors(fit.outputs + fit.X @ step.T)
        if _sizes(factors).max() <= largest:
            return step, factors
        step = step / 2
    return np.zeros_like(step), fit.factors(fit.outputs)


def _sizes(factors: np.ndarray) -> np.ndarray:
    return np.abs(factors).max((1, 2))


def _steps(
    white: Whitened, known: np.ndarray, weights: np.ndarray, draws: np.ndarray, order: str
) -> np.ndarray:
    """Steps (n, q) of rows that count once in a sample in which the others have their draws."""
    found = np.zeros((len(weights), white.basis.shape[1]))
    for some, P in white.blocks():
        w, e = weights[some, None], draws[some, None]
        roots = np.sqrt(w)[:, :, None]
        U = roots * (white.factors[some].transpose(0, 2, 1) @ P)
        p = np.einsum("ikq,ik->iq", P, w * white.slopes[some])
        p_known = np.einsum("ikq,ik->iq", P, w * known[some])
        values, axes = np.linalg.eigh(U @ U.transpose(0, 2, 1))
        h = np.maximum(values, 0.0)
        UQ = np.einsum("irs,irq->isq", axes, U)
        # p₁ = p - a Uᵀ Q diag(1 / (1 + ah)) Qᵀ U p̃
        inner = (1 - e) / (1 + (1 - e) * h) * np.einsum("isq,iq->is", UQ, p_known)
        p -= np.einsum("isq,is->iq", UQ, inner)
        # F(UᵀU) p₁ = p₁ + Uᵀ Q diag((F(h) - 1) / h) Qᵀ U p₁
        inner = _share(h, e, order) * np.einsum("isq,iq->is", UQ, p)
        found[some] = p + np.einsum("isq,is->iq", UQ, inner)
    return found


def _share(h: np.ndarray, draw: np.ndarray, order: str) -> np.ndarray:
    """``(F(h) - 1) / h`` of an eigenvalue h of a leverage block."""
    if order == "first":
        # 1 / (1 + ah) - 1 = -ah / (1 + ah)
        return -(1 - draw) / (1 + (1 - draw) * h)
    left = 1 - draw * h
    # 1 / (1 - eh) - 1 = eh / (1 - eh)
    kept = left > UNDETERMINED
    return np.where(kept, draw / np.where(kept, left, 1.0), -1 / np.where(h > 0, h, 1.0))
