"""Ready-made cotangent functions: which output-space vectors are pulled back to parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from influencekit.models import Task

__all__ = ["CotangentFunction", "ggn_cotangent", "loss_cotangent", "output_cotangent"]

#: ``(outputs (n, *output_shape), targets) -> (n, R, *output_shape)``
CotangentFunction = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class _OutputCotangent:
    """Cotangents of a scalar function; two of the same function are equal."""

    function: Callable[[Tensor, Tensor | None], Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            values = self.function(outputs, targets)
        if values.shape != outputs.shape[:1]:
            raise ValueError(
                f"the explained function returned shape {tuple(values.shape)} for "
                f"{len(outputs)} examples; it must return one number an example, shape "
                f"({len(outputs)},). Take losses with reduction='none'."
            )
        if not values.requires_grad:
            return torch.zeros_like(outputs)[:, None]
        return torch.autograd.grad(values.sum(), outputs)[0][:, None]


@dataclass(frozen=True)
class _GaussNewtonCotangent:
    """Columns of the factor of the loss's output-space Hessian."""

    task: Task

    def __call__(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        factor = self.task.loss.hessian_factor(outputs.detach(), targets).factor
        return factor.mT.reshape(len(outputs), factor.shape[-1], *outputs.shape[1:])


def output_cotangent(function: Callable[[Tensor, Tensor | None], Tensor]) -> CotangentFunction:
    """Cotangents whose pull-back is the gradient of a scalar function of the outputs.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets) -> (n,)``, one number an example.

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, 1, *output_shape)``.
    """
    return _OutputCotangent(function)


def loss_cotangent(task: Task) -> CotangentFunction:
    """Cotangents whose pull-back is the gradient of the per-example training loss (R = 1).

    Parameters
    ----------
    task : Task

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, 1, *output_shape)``.
    """
    return _OutputCotangent(task.loss)


def ggn_cotangent(task: Task) -> CotangentFunction:
    """Cotangents whose pull-backs are rows of the Gauss-Newton factor.

    Row r of an example is ``Jᵀ L[:, r]`` with ``L Lᵀ`` the Hessian of the loss with respect
    to the outputs, so that the Gauss-Newton matrix is the sum of outer products of all rows.

    Parameters
    ----------
    task : Task

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, rank, *output_shape)``.
    """
    return _GaussNewtonCotangent(task)
