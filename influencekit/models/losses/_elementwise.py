"""Losses that are a sum or mean over output columns of a scalar function."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from influencekit.models.losses._base import NONNEGATIVE, Draw, HessianFactor, OutputLoss

__all__ = ["ColumnLoss", "ElementwiseLoss", "PoissonLoss", "SquaredError"]


class ColumnLoss(OutputLoss):
    """Sum, or mean, over output columns of a scalar function of output and target.

    Its Hessian is diagonal.  Targets have the shape of the outputs, (n, k); a single column may be
    given as (n,).

    Attributes
    ----------
    average : bool
        Mean over the k columns (torch criteria) instead of their sum.
    """

    problem_type = "regression"
    average: bool = False

    @abstractmethod
    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every column, (n, k), (n, k) -> (n, k)."""

    def derivatives(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of :meth:`terms` in the outputs, each (n, k)."""

        def total(z: Tensor) -> Tensor:
            return self.terms(z, targets).sum()

        slope = torch.func.grad(total)
        return slope(outputs), torch.func.grad(lambda z: slope(z).sum())(outputs)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        terms = self.terms(*flat_pair(outputs, targets))
        return terms.mean(1) if self.average else terms.sum(1)

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        z, t = flat_pair(outputs, targets)
        first, second = self.derivatives(z, t)
        curved = second > 0
        root = torch.where(curved, second, torch.zeros_like(second)).sqrt()
        coordinates = torch.where(curved, first / torch.where(curved, root, 1.0), 0.0)
        scale = 1 / math.sqrt(z.shape[1]) if self.average else 1.0
        inside = bool((curved | (first == 0)).all())
        return HessianFactor(
            scale * torch.diag_embed(root), scale * coordinates if inside else None
        )

    def sampled_gradients(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        z, t = flat_pair(outputs, targets)
        _, second = self.derivatives(z, t)
        root = second.clamp_min(0).sqrt() / (math.sqrt(z.shape[1]) if self.average else 1.0)
        normal = torch.special.ndtri(draw(z.shape[1])).to(root)
        return (normal * root[:, None]).unflatten(2, outputs.shape[1:])


class ElementwiseLoss(ColumnLoss):
    """Sum, or mean, over output columns of a differentiable function of output and target.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets) -> losses``, all of shape (n, k).
    average : bool, default=False
        Mean over the k columns instead of their sum.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], average: bool = False):
        self.function = function
        self.average = average

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.function(outputs, targets)


class SquaredError(ColumnLoss):
    """``scale * Σ_k (output_k - target_k)²``.

    Parameters
    ----------
    scale : float, default=1.0
        1 for scikit-learn's Ridge, ½ if the model minimizes half the squared error.
    average : bool, default=False
        Mean over the k columns instead of their sum (torch's MSELoss).
    """

    def __init__(self, scale: float = 1.0, average: bool = False):
        self.scale = scale
        self.average = average

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.scale * (outputs - targets).square()

    def derivatives(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        second = torch.full_like(outputs, 2 * self.scale)
        return second * (outputs - targets), second


class PoissonLoss(ColumnLoss):
    """Half the Poisson deviance of log-rates: ``Σ_k e^z - t z + t log t - t``."""

    target_range = NONNEGATIVE

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        constant = torch.xlogy(targets, targets) - targets
        return torch.exp(outputs) - targets * outputs + constant

    def derivatives(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        rate = torch.exp(outputs)
        return rate - targets, rate

    def prediction(self, outputs: Tensor) -> Tensor:
        return torch.exp(outputs)


def flat_pair(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and targets as two matrices (n, k) of the outputs' dtype."""
    z = outputs.flatten(1)
    t = targets.to(z.dtype).reshape(len(targets), -1)
    if t.shape != z.shape:
        raise ValueError(
            f"y: got shape {tuple(targets.shape)} for outputs of shape {tuple(outputs.shape)}; "
            "accepted is one target for each output."
        )
    return z, t
