"""Training rows that a linear model nearly follows: which, found without all coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature.exact._unheld import UnheldSpectrum
from influencekit.utils.validation import present

__all__ = ["HIGH_LEVERAGE", "high_share"]

#: Leverage from which a removal moves the model at least twice as far as to first order.
HIGH_LEVERAGE = 0.5
#: Random directions, four times eight, from which leverages are estimated.
_TURNS, _AT_ONCE = 4, 8
#: Estimates below this share of the bound are not looked at again. Of rows on the bound, whose
#: estimate is a χ² of 32 over its mean, fewer than one in 10⁷ are missed.
_SAFE = 0.2


def high_share(curvature: FittedCurvature, damping: float) -> float:
    """Share of rows whose leverage along their own pull is above :data:`HIGH_LEVERAGE`.

    Parameters
    ----------
    curvature : FittedCurvature
        The generalized Gauss-Newton matrix of a linear model.
    damping : float
    """
    # ∇lossᵀ A⁻¹ ∇loss w/W = cᵀ H c, beside cᵀ c
    weights = curvature.problem.example_weights.cpu()
    bounds = HIGH_LEVERAGE * _squares(curvature) * (1 + 1e-9)
    if not isinstance(curvature, UnheldSpectrum):
        sizes = curvature.self_products(damping).double().cpu() * weights
        return float((sizes > bounds).double().mean())
    estimates = _estimates(curvature, damping) * weights
    rows = (estimates > _SAFE * bounds).nonzero()[:, 0]
    sizes = curvature.some_self_products(rows, damping) * weights[rows]
    return int((sizes > bounds[rows]).sum()) / len(weights)


def _squares(curvature: FittedCurvature) -> Tensor:
    """``cᵀ c`` of all rows, with ``∇loss = L c``; ∞ for a loss that knows no c."""
    problem = curvature.problem
    found = torch.full((len(problem.examples),), torch.inf, dtype=torch.float64)
    for batch, outputs in problem.engine.passes(problem.examples, 4096):
        targets = present(batch.targets, "training targets")
        factor = problem.engine.task.loss.hessian_factor(outputs, targets)
        if factor.coordinates is not None:
            found[batch.rows] = factor.coordinates.square().sum(1).double().cpu()
    return found


def _estimates(spectrum: UnheldSpectrum, damping: float) -> Tensor:
    """Products of gradients with themselves, from random directions (Johnson-Lindenstrauss)."""
    roots, generator = spectrum.inverse(damping).sqrt(), torch.Generator().manual_seed(0)
    found = torch.zeros(len(spectrum.problem.examples), dtype=torch.float64)
    for _ in range(_TURNS):
        random = torch.randn(_AT_ONCE, len(roots), generator=generator, dtype=torch.float64)
        # E[(ωᵀ (S + λ)^(-1/2) c)²] = cᵀ (S + λ)⁻¹ c
        found += spectrum.train_products(random.to(roots) * roots).square_().sum(0).cpu()
    return found / (_TURNS * _AT_ONCE)
