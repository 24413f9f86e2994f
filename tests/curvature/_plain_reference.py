"""Scores of influence functions by plain autograd, one example at a time, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def wide(value: Any) -> Any:
    """Tensors of a structure, real ones in float64."""
    if isinstance(value, tuple):
        return tuple(map(wide, value))
    if isinstance(value, dict):
        return {key: wide(item) for key, item in value.items()}
    return value.double() if value.is_floating_point() else value


def row(value: Any, i: int) -> Any:
    """One example of a structure, as a batch."""
    if isinstance(value, tuple):
        return tuple(row(item, i) for item in value)
    if isinstance(value, dict):
        return {key: row(item, i) for key, item in value.items()}
    return value[i : i + 1]


def loss_gradients(net: nn.Module, loss: Callable, X: Any, y: Any, n: int) -> Tensor:
    """Gradient of each example's loss, (n, p)."""
    net, rows = copy.deepcopy(net).double().eval(), []
    own = [p for p in net.parameters() if p.requires_grad]
    for i in range(n):
        value = loss(net(row(wide(X), i)), row(wide(y), i)).sum()
        found = torch.autograd.grad(value, own, allow_unused=True)
        pairs = zip(found, own, strict=True)
        rows.append(torch.cat([_flat(g, p) for g, p in pairs]))
    return torch.stack(rows)


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros_like(parameter).flatten()
    return gradient.to_dense().flatten()


def gauss_newton(net: nn.Module, loss: Callable, X: Any, y: Any, n: int) -> Tensor:
    """``mean_i J_iᵀ (∇²loss_i) J_i`` of a net with one tensor as output, (p, p)."""
    net = copy.deepcopy(net).double().eval()
    own = [p for p in net.parameters() if p.requires_grad]
    total: Any = 0.0
    for i in range(n):
        out, target = net(row(wide(X), i)), row(wide(y), i)
        jacobian = torch.stack(
            [
                torch.cat(
                    [
                        _flat(g, p)
                        for g, p in zip(
                            torch.autograd.grad(z, own, retain_graph=True, allow_unused=True),
                            own,
                            strict=True,
                        )
                    ]
                )
                for z in out.flatten()
            ]
        )
        z = out.detach()
        H = torch.autograd.functional.hessian(lambda z, t=target: loss(z, t).sum(), z)
        total = total + jacobian.T @ H.reshape(z.numel(), -1) @ jacobian
    return total / n


def hessian(net: nn.Module, loss: Callable, X: Any, y: Any, n: int) -> Tensor:
    """Hessian of the mean loss, by a second backward pass, (p, p)."""
    net = copy.deepcopy(net).double().eval()
    own = [p for p in net.parameters() if p.requires_grad]
    rows = [loss(net(row(wide(X), i)), row(wide(y), i)).sum() for i in range(n)]
    first = torch.autograd.grad(torch.stack(rows).mean(), own, create_graph=True)
    flat = torch.cat([g.flatten() for g in first])
    columns = [torch.autograd.grad(g, own, retain_graph=True, allow_unused=True) for g in flat]
    return torch.stack(
        [torch.cat([_flat(g, p) for g, p in zip(column, own, strict=True)]) for column in columns]
    )


def scores(gradients: Tensor, matrix: Tensor, damping: float, n: int) -> Any:
    """Scores of the examples after the first ``n`` for these, of the negative loss."""
    damped = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype)
    return (gradients[n:] @ torch.linalg.solve(damped, gradients[:n].T) / n).numpy()


def relative_error(found: Any, expected: Any) -> float:
    """Largest difference over the largest expected value."""
    return float(abs(found - expected).max() / abs(expected).max())
