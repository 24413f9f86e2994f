"""Gradients and Hessians of each example's loss in its outputs, whatever the loss is made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["output_derivatives"]


def output_derivatives(
    one: Callable[[Tensor, Tensor], Tensor],
    losses: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor,
    targets: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradient (n, m) and Hessian (n, m, m) of every example's loss.

    Parameters
    ----------
    one : callable
        Loss of one example, ``(m,), (...) -> ()``.
    losses : callable
        Losses of many examples, ``(n, m), (n, ...) -> (n,)``.
    outputs : Tensor of shape (n, m)
    targets : Tensor of shape (n, ...)

    Returns
    -------
    gradient : Tensor of shape (n, m)
    hessian : Tensor of shape (n, m, m)

    Notes
    -----
    By ``torch.func`` where it takes the loss. A loss that reads values, or has no forward-mode
    derivative, is differentiated twice backward, all examples together. One without a second
    derivative (a CTC loss) is differentiated by differences of its gradient, in float64.
    """
    try:
        hessian = torch.func.vmap(torch.func.hessian(one))(outputs, targets)
        return torch.func.vmap(torch.func.grad(one))(outputs, targets), hessian
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError):
        pass

    def total(z: Tensor, t: Tensor) -> Tensor:
        return losses(z, t).sum()

    with torch.enable_grad():
        try:
            return _twice_backward(total, outputs, targets)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            pass
        try:
            wide = targets.double() if targets.is_floating_point() else targets
            gradient, hessian = _differences(total, outputs.double(), wide)
        except RuntimeError:  # tensors in float32 inside
            return _differences(total, outputs, targets)
    return gradient.to(outputs.dtype), hessian.to(outputs.dtype)


def _gradient(total: Callable, outputs: Tensor, targets: Tensor) -> Tensor:
    z = outputs.detach().requires_grad_()
    value = total(z, targets)
    if not value.requires_grad:
        return torch.zeros_like(outputs)
    return torch.autograd.grad(value, z)[0]


def _twice_backward(total: Callable, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    z = outputs.detach().requires_grad_()
    gradient = torch.autograd.grad(total(z, targets), z, create_graph=True)[0]
    columns = []
    for k in range(outputs.shape[1]):
        own = gradient[:, k].sum()  # examples do not mix
        found = torch.autograd.grad(own, z, retain_graph=True, allow_unused=True)[0]
        columns.append(torch.zeros_like(outputs) if found is None else found)
    return gradient.detach(), torch.stack(columns, dim=2)


def _differences(total: Callable, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    z = outputs.detach()
    step = torch.finfo(z.dtype).eps ** (1 / 3) * max(1.0, float(z.abs().max()))
    gradient, columns = _gradient(total, z, targets), []
    for k in range(z.shape[1]):
        move = torch.zeros_like(z)
        move[:, k] = step
        # ∂∇/∂z_k ≈ (∇(z + h e_k) - ∇(z)) / h, and from the other side
        ahead = (_gradient(total, z + move, targets) - gradient) / step
        back = (gradient - _gradient(total, z - move, targets)) / step
        columns.append(_without_kinks(ahead, back))
    hessian = torch.stack(columns, dim=2)
    return gradient, (hessian + hessian.mT) / 2


def _without_kinks(ahead: Tensor, back: Tensor) -> Tensor:
    """The mean of both sides; where a kink of the loss lies on one of them, the other side."""
    smooth = (ahead - back).abs() <= 0.1 * (ahead.abs() + back.abs())
    return torch.where(
        smooth, (ahead + back) / 2, torch.where(ahead.abs() < back.abs(), ahead, back)
    )
