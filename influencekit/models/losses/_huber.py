"""Huber's loss of a prediction and of the scale of its residuals, estimated together."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.models.losses._base import Draw, HessianFactor, OutputLoss
from influencekit.models.losses._elementwise import ColumnLoss

__all__ = ["HuberWithScale"]


class HuberWithScale(ColumnLoss):
    """``σ + σ H(r / σ)`` with ``H(u) = u²`` up to ``|u| = ε`` and ``2 ε |u| - ε²`` beyond.

    Outputs are ``(z, σ)``: it is convex in both together.

    Parameters
    ----------
    epsilon : float
    """

    def __init__(self, epsilon: float):
        self.epsilon = epsilon

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        z, scale = outputs[:, :1], outputs[:, 1:]
        size = (z - targets.to(z.dtype).reshape(-1, 1)).abs()
        outer = 2 * self.epsilon * size - scale * self.epsilon**2
        return scale + torch.where(size <= self.epsilon * scale, size.square() / scale, outer)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.terms(outputs, targets)[:, 0]

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        # H = (2/σ) v vᵀ with v = (1, -r/σ), and 0 beyond ε σ
        scale = outputs[:, 1]
        ratio = (outputs[:, 0] - targets.to(outputs.dtype).reshape(-1)) / scale
        inner = (ratio.abs() <= self.epsilon).to(outputs.dtype) * (2 / scale).sqrt()
        return HessianFactor((torch.stack([inner, -ratio * inner], dim=1))[..., None], None)

    def sampled_gradients(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        return OutputLoss.sampled_gradients(self, outputs, targets, draw)

    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs[:, :1]

    def target_shape(self, outputs: Tensor) -> tuple[int, ...]:  # noqa: ARG002  other losses look at them
        return (1,)
