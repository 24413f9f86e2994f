"""One step of the optimiser of a whole stack."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["StackedStep"]


class StackedStep:
    """Moves every model of a stack by one step of its optimiser.

    Parameters
    ----------
    parameters : mapping of str to Tensor of shape (n_models, ...)
        Changed in place.
    optimizer : torch.optim.Optimizer
        An elementwise one, of these parameters.
    penalty : mapping of str to Tensor, default=None
        Strengths, broadcastable to the parameters: ``r θ`` is added to the gradient.
    max_norm : float or None, default=None
        Norm to which every model's gradient is clipped, as ``clip_grad_norm_`` does.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        optimizer: Optimizer,
        penalty: Mapping[str, Tensor] | None = None,
        max_norm: float | None = None,
    ):
        self.parameters = {name: p for name, p in parameters.items() if p.requires_grad}
        self.optimizer = optimizer
        self.penalty = penalty or {}
        self.max_norm = max_norm

    def __call__(self, value: Tensor) -> None:
        """Take one step.

        Parameters
        ----------
        value : Tensor, a scalar
            Sum of the models' objectives without the penalty.
        """
        own = list(self.parameters.values())
        gradients = torch.autograd.grad(value, own, allow_unused=True)
        with torch.no_grad():
            for (name, p), gradient in zip(self.parameters.items(), gradients, strict=True):
                if gradient is not None and name in self.penalty:
                    gradient = gradient + self.penalty[name] * p
                p.grad = gradient
            if self.max_norm is not None:
                self._clip([p for p in own if p.grad is not None])
        self.optimizer.step()

    def _clip(self, parameters: list[Tensor]) -> None:
        """Scale each model's gradient as clip_grad_norm_ does for a model alone."""
        norms = torch.stack([p.grad.flatten(1).norm(dim=1) for p in parameters]).norm(dim=0)
        factor = (self.max_norm / (norms + 1e-6)).clamp(max=1.0)
        for p in parameters:
            p.grad = p.grad * factor.reshape(-1, *[1] * (p.ndim - 1))
