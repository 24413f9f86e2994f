"""The linear-Gaussian posterior of scores, given the outputs of retrained models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidate", "Posterior", "best_posterior", "candidates", "predicted"]

#: Candidate ratios of prior variance to noise variance, in units of 4 / n_train.
NOISE_RATIOS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: Share of the prior variance that is equal for all rows.
FLAT_SHARE = 0.05
#: Number of alternating updates of the shared slope and the noise variances.
ROUNDS = 20


@dataclass(frozen=True)
class Candidate:
    """A prior: its scores, and the variance of each row's score around them.

    Parameters
    ----------
    scores : ndarray of shape (n_query, n_train) or None
        Prior mean; None is 0.
    variances : ndarray of shape (n_train,)
        Relative prior variances of the rows, with mean 1.
    factor : float
        Factor on the prior's damping.
    spread : str
        Name of what the variances are proportional to.
    """

    scores: NDArray | None
    variances: NDArray
    factor: float = 1.0
    spread: str = "flat"


@dataclass(frozen=True)
class Posterior:
    """The posterior mean under the prior, noise ratio and slopes with the highest evidence.

    Parameters
    ----------
    scores : ndarray of shape (n_query, n_train)
    slopes : ndarray of shape (n_query,)
        Slopes on the prior's scores.
    noise_ratio : float
    log_likelihood : float
        Restricted log-likelihood, summed over queries, up to a constant.
    candidate : Candidate
    """

    scores: NDArray
    slopes: NDArray
    noise_ratio: float
    log_likelihood: float
    candidate: Candidate


def candidates(priors: dict[float, NDArray] | None, n_train: int) -> list[Candidate]:
    """Candidate priors: the scores of each damping factor, with three kinds of variances."""
    flat = np.ones(n_train)
    if priors is None:
        return [Candidate(None, flat)]
    found = []
    for factor, scores in priors.items():
        sizes = {"mean square": np.square(scores).mean(0), "mean size": np.abs(scores).mean(0)}
        found.append(Candidate(scores, flat, factor))
        for spread, size in sizes.items():
            if size.mean() > 0:
                variances = (1 - FLAT_SHARE) * size / size.mean() + FLAT_SHARE
                found.append(Candidate(scores, variances, factor, spread))
    return found


def best_posterior(
    masks: NDArray, outputs: NDArray, options: Sequence[Candidate], shared: bool
) -> Posterior:
    """Posterior under the candidate and noise ratio with the highest restricted likelihood.

    Parameters
    ----------
    masks : ndarray of shape (n_trainings, n_train)
    outputs : ndarray of shape (n_trainings, n_query)
    options : sequence of Candidate
    shared : bool
        Whether all queries share one slope on the prior's scores.

    Returns
    -------
    Posterior
    """
    centered = masks - masks.mean(0)
    found = (p for option in options for p in _at_ratios(centered, outputs, option, shared))
    return max(found, key=lambda posterior: posterior.log_likelihood)


def predicted(scores: NDArray, masks: NDArray) -> NDArray:
    """Sums of scores over subsets, (n_trainings, n_query)."""
    return masks @ scores.T


def _at_ratios(Z: NDArray, y: NDArray, prior: Candidate, shared: bool) -> Iterator[Posterior]:
    """Posteriors at every noise ratio, from one eigendecomposition.

    For each query ``y = μ + c Zτ + Zb + e`` with ``b ~ N(0, ρσ²D)`` and ``e ~ N(0, σ²)``, so that
    the variance of y is ``σ² V``, ``V = I + ρ Z D Zᵀ``.
    """
    # Z D Zᵀ = Q diag(v) Qᵀ
    half = Z * np.sqrt(prior.variances)
    values, basis = np.linalg.eigh(half @ half.T)
    values = values.clip(min=0)
    # Qᵀ 1, Qᵀ y and Qᵀ Z τ
    ones, y = basis.T @ np.ones(len(Z)), basis.T @ y
    slope_of = None if prior.scores is None else basis.T @ (Z @ prior.scores.T)
    # without a prior a ratio of 0 would leave no scores at all, where small ones still rank rows
    ratios = NOISE_RATIOS[1:] if prior.scores is None else NOISE_RATIOS
    for ratio in np.array(ratios) * 4 / Z.shape[1]:
        # V⁻¹ = Q diag(1 / (1 + ρ v)) Qᵀ
        weights = 1 / (1 + ratio * values)
        fit = _Generalized(weights, ones, y, slope_of, shared)
        # V⁻¹ (y - μ - c Zτ)
        rest = basis @ (weights[:, None] * fit.residuals)
        # ρ D Zᵀ V⁻¹ (y - μ - c Zτ) + c τ
        scores = ratio * prior.variances * (Z.T @ rest).T
        if prior.scores is not None:
            scores = scores + fit.slopes[:, None] * prior.scores
        # log det V
        log_det = -np.log(weights).sum()
        yield Posterior(scores, fit.slopes, float(ratio), fit.log_likelihood(log_det), prior)


class _Generalized:
    """Generalized least squares of every query, in the eigenbasis of V, with slopes of 0 or more.

    Parameters
    ----------
    weights : ndarray of shape (n_trainings,)
        Eigenvalues of the inverse of V.
    ones, y, x : ndarray
        Intercept (n_trainings,), outputs and the prior's sums (n_trainings, n_query), rotated.
    shared : bool
    """

    def __init__(
        self, weights: NDArray, ones: NDArray, y: NDArray, x: NDArray | None, shared: bool
    ):
        self.weights, self.count = weights[:, None], len(weights) - 1
        # scale the prior's sums to length 1, so that priors of different scale are comparable
        self.square_lengths = None if x is None else np.square(x).sum(0)
        # 1ᵀ V⁻¹ 1
        self.inner = float(weights @ ones**2)
        # y - 1 (1ᵀ V⁻¹ y) / (1ᵀ V⁻¹ 1), and the same of x
        self.y = y - np.outer(ones, (weights * ones) @ y / self.inner)
        self.x = None if x is None else x - np.outer(ones, (weights * ones) @ x / self.inner)
        self.shared = shared
        self.slopes = self._slopes()
        self.residuals = self.y if self.x is None else self.y - self.slopes * self.x
        self.squares = self._dot(self.residuals, self.residuals)

    def log_likelihood(self, log_det: float) -> float:
        """Restricted log-likelihood, summed over queries; counts nonzero slopes unless shared."""
        own = (self.slopes > 0) & (not self.shared)
        count = self.count - own
        tiny = np.finfo(float).tiny
        det = np.full(len(self.slopes), np.log(self.inner))
        if self.x is not None and self.square_lengths is not None:
            inner = self._dot(self.x, self.x) / np.maximum(self.square_lengths, tiny)
            det = det + np.where(own, np.log(np.maximum(inner, tiny)), 0.0)
        fit = count * np.log(np.maximum(self.squares, tiny) / count)
        return float(-0.5 * (fit + log_det + det).sum())

    def _dot(self, a: NDArray, b: NDArray) -> NDArray:
        # aᵀ V⁻¹ b of every query
        return (self.weights * a * b).sum(0)

    def _slopes(self) -> NDArray:
        n_query = self.y.shape[1]
        if self.x is None:
            return np.zeros(n_query)
        # xᵀ V⁻¹ y and xᵀ V⁻¹ x; their ratio is the slope
        above, below = self._dot(self.x, self.y), self._dot(self.x, self.x)
        if not self.shared:
            slopes = np.divide(above, below, out=np.zeros(n_query), where=below > 0)
            return slopes.clip(min=0)
        slope, own = 0.0, self._dot(self.y, self.y)
        for _ in range(ROUNDS):
            # (y - c x)ᵀ V⁻¹ (y - c x)
            noise = own - 2 * slope * above + slope**2 * below
            good = noise > 0
            total = (below[good] / noise[good]).sum()
            slope = max(0.0, float((above[good] / noise[good]).sum() / total)) if total > 0 else 0.0
        return np.full(n_query, slope)
