"""How far a model's outputs may be from those at the minimum of its objective.

Let ``g`` and ``H`` be gradient and Hessian at θ of an objective with minimum θ + d, and let the
second derivative of each row's loss change along the segment by at most ``exp(±h s)``, where h is
the largest change of a training row's outputs (self-concordance: logistic, softmax and Poisson
losses with a factor M of 1, squared error with 0). With ``ν = ‖g‖`` in the norm of ``H⁻¹`` and ρ
the largest change of a row's outputs under ``‖d‖_H = 1``,

    1 - exp(-Mρ‖d‖) ≤ Mρν ,    ‖d + H⁻¹g‖_H ≤ ((exp(t) - 1) / t - 1) ‖d‖_H  with t = Mρ‖d‖ ,

so an output moves by ``x · d = -x · H⁻¹g`` up to ``‖x‖_{H⁻¹}`` times the second bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._deviance import DevianceLoss
from influencekit.models.losses._elementwise import ColumnLoss, PoissonLoss, SquaredError
from influencekit.removal._linear_fit import LinearFit
from influencekit.removal._whitened import Whitened, decomposed

__all__ = ["Certificate", "certificate"]

#: Share of the gradient outside the range of the Hessian up to which it counts as rounding.
OUTSIDE = 1e-7
#: Relative rounding of outputs.
ROUNDING = 1e-12
#: Points of a segment at which the second derivative of an unknown loss is looked at.
_POINTS = 33


@dataclass
class Certificate:
    """Gradient and Hessian at some coefficients, and how far the minimum may be.

    Attributes
    ----------
    white : Whitened
        The Hessian there.
    decrement : ndarray of shape (q,)
        ``Wᵀ g``; its norm is ν.
    remainder : float
        Bound of ``‖d + H⁻¹g‖_H``; infinite where nothing is known.
    contrasts : bool
        Whether only differences of outputs matter (softmax).
    """

    white: Whitened
    decrement: np.ndarray
    remainder: float
    contrasts: bool

    def bounds(self, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Largest error of outputs (m, k), of a class with another one for a softmax.

        Parameters
        ----------
        rows : ndarray of shape (m, k, q)
            ``P`` of the examples.
        outputs : ndarray of shape (m, k)

        Returns
        -------
        ndarray of shape (m, k)
        """
        first, lengths = rows @ self.decrement, _lengths(rows, self.contrasts)
        if self.contrasts:
            first = first[:, :, None] - first[:, None, :]
        # |x · H⁻¹g| + ‖x‖_{H⁻¹} ‖d + H⁻¹g‖_H
        with np.errstate(invalid="ignore"):
            reach = np.where(lengths > 0, lengths * self.remainder, 0.0)
        found = np.abs(first) + reach
        found = found.max(2) if self.contrasts else found
        return found + ROUNDING * (1 + np.abs(outputs))


def certificate(model: Whitened, theta: np.ndarray, weights: np.ndarray) -> Certificate:
    """Look at an objective with other weights, at some coefficients.

    Parameters
    ----------
    model : Whitened
        The model of all rows. Directions that it determines and the kept rows do not have no bound.
    theta : ndarray of shape (k, d)
    weights : ndarray of shape (n,)
        0 for rows that are left out.

    Returns
    -------
    Certificate
    """
    fit = model.fit
    outputs = fit.X @ theta.T
    matrix = fit.hessian(fit.factors(outputs), weights)
    white = decomposed(fit, matrix)
    gradient = fit.gradient(theta, weights).reshape(-1)
    decrement = white.basis.T @ gradient
    contrasts = isinstance(fit.task.loss, CrossEntropy)
    outside = gradient - matrix @ (white.basis @ decrement)
    size = np.abs(weights[:, None] * fit.slopes(outputs)).T @ np.abs(fit.X)
    lost = white.basis.shape[1] < model.basis.shape[1]
    if lost or np.any(np.abs(outside) > OUTSIDE * size.max()):
        return Certificate(white, decrement, math.inf, contrasts)
    longest = _longest(white, weights > 0, contrasts)
    remainder = _remainder(fit, outputs, weights > 0, longest, float(np.linalg.norm(decrement)))
    return Certificate(white, decrement, remainder, contrasts)


def _longest(white: Whitened, kept: np.ndarray, contrasts: bool) -> float:
    """ρ: the largest change of a kept row's outputs under a step of length 1."""
    found = 0.0
    for some, P in white.blocks():
        if kept[some].any():
            found = max(found, float(_lengths(P[kept[some]], contrasts).max()))
    return found


def _lengths(rows: np.ndarray, contrasts: bool) -> np.ndarray:
    """Norms of ``P``, (m, k), or of differences between its outputs, (m, k, k)."""
    if not contrasts:
        return np.linalg.norm(rows, axis=2)
    products = rows @ rows.transpose(0, 2, 1)
    own = np.diagonal(products, axis1=1, axis2=2)
    # |P_a - P_b|²
    return np.sqrt(np.maximum(own[:, :, None] + own[:, None, :] - 2 * products, 0.0))


def _remainder(
    fit: LinearFit, outputs: np.ndarray, kept: np.ndarray, longest: float, decrement: float
) -> float:
    """Bound of ``‖d + H⁻¹g‖_H``."""
    loss, reach = fit.task.loss, 4 * longest * decrement
    change = _relative_change(loss)
    if change is None:
        change = _looked_at(fit, outputs, kept, reach) if reach < 1e3 else math.inf
    else:
        reach = math.inf
    if change == 0 or decrement == 0:
        return 0.0
    s = change * longest * decrement
    if not s < 1:
        return math.inf
    # t = -log(1 - Mρν), ‖d‖_H ≤ t / Mρ
    t = -math.log1p(-s)
    if t / change > reach:  # beyond the segment that was looked at
        return math.inf
    growth = math.expm1(t) / t - 1 if t > 1e-6 else t
    return growth * t / (change * longest)


def _relative_change(loss: OutputLoss) -> float | None:
    """M: by how much ``log φ''`` changes with an output, at most; None if it is not known."""
    if isinstance(loss, SquaredError):
        return 0.0
    if isinstance(loss, (BinaryCrossEntropy, CrossEntropy, PoissonLoss)):
        return 1.0
    if isinstance(loss, DevianceLoss) and loss.log_link and loss.convex:
        # φ'' = (2-p) e^{(2-p)z} + t (p-1) e^{(1-p)z}
        return max(2 - loss.power, loss.power - 1)
    return None if isinstance(loss, ColumnLoss) else math.inf


def _looked_at(fit: LinearFit, outputs: np.ndarray, kept: np.ndarray, reach: float) -> float:
    """The same on the segments ``z ± reach`` of the kept rows, at points in small distances."""
    loss: Any = fit.task.loss
    z, targets = torch.from_numpy(outputs[kept]), fit.targets[torch.from_numpy(kept)]
    targets = targets.to(z).reshape(z.shape)
    places = np.linspace(-reach, reach, _POINTS)
    found = [loss.derivatives(z + place, targets)[1].detach().numpy() for place in places]
    curved = np.stack(found)
    flat = (curved <= 0).all(0)  # linear along the whole segment
    if ((curved <= 0) & ~flat).any():
        return math.inf
    logs = np.log(np.where(flat, 1.0, curved))
    return (
        float(np.abs(np.diff(logs, axis=0)).max() / (places[1] - places[0])) if reach > 0 else 0.0
    )
