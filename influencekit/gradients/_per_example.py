"""The dense fallback: per-example gradients of some parameters by torch.func, or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from influencekit.models._task import Task
from influencekit.utils._long_work import chunks
from influencekit.utils._torch import flat_gradient, map_tensors, select_rows, simple_kernels

__all__ = ["dense_rows"]


def dense_rows(
    task: Task,
    names: Sequence[str],
    inputs: Any,
    cotangents: Tensor,
    *,
    vmaps: bool = True,
    workspace: int,
) -> Tensor:
    """Gradients of some parameters, dense.

    Parameters
    ----------
    task : Task
    names : sequence of str
        Parameters to differentiate with respect to.
    inputs : tensor, tuple or dict of tensors
        A batch of n examples.
    cotangents : Tensor of shape (n, R, *output_shape)
    vmaps : bool
        Whether to run under vmap; else examples are taken one by one.
    workspace : int
        Bytes that the gradients of a chunk may take.

    Returns
    -------
    Tensor of shape (n, R, width)
    """
    n, rows = cotangents.shape[:2]
    parameters = {name: task.parameters[name] for name in names}
    width = sum(p.numel() for p in parameters.values())
    out = cotangents.new_empty(n, rows, width)
    if not vmaps:
        for i in range(n):
            _one_example(
                task, parameters, select_rows(inputs, slice(i, i + 1), n), cotangents[i], out[i]
            )
        return out
    each = 3 * rows * width * out.element_size()
    with torch.no_grad(), simple_kernels():
        for part in chunks(n, each, workspace):
            chunk = select_rows(inputs, part, n)
            out[part] = _vmapped(task, parameters, chunk, cotangents[part])
    return out


def _one_example(
    task: Task, parameters: dict, inputs: Any, cotangents: Tensor, out: Tensor
) -> None:
    with torch.enable_grad():
        outputs = task.forward(inputs)
    wanted = tuple(parameters.values())
    for r, cotangent in enumerate(cotangents):
        grads = torch.autograd.grad(
            outputs,
            wanted,
            cotangent[None],
            retain_graph=r + 1 < len(cotangents),
            allow_unused=True,
        )
        torch.cat([flat_gradient(g, p) for g, p in zip(grads, wanted, strict=True)], out=out[r])


def _vmapped(task: Task, parameters: dict, inputs: Any, cotangents: Tensor) -> Tensor:
    replaced = {name: p.detach() for name, p in parameters.items()}

    def rows_of_one(example: Any, example_cotangents: Tensor) -> tuple[Tensor, ...]:
        example = map_tensors(lambda t: t[None], example)

        found: tuple[Any, ...] = torch.func.vjp(lambda own: task.forward(example, own), replaced)
        pull_back = found[1]
        if len(example_cotangents) == 1:
            grads = pull_back(example_cotangents)[0]
            return tuple(g.reshape(1, -1) for g in grads.values())
        grads = torch.func.vmap(lambda c: pull_back(c[None])[0])(example_cotangents)
        return tuple(g.flatten(1) for g in grads.values())

    return torch.cat(torch.func.vmap(rows_of_one)(inputs, cotangents), dim=2)
