"""What automatic differentiation gives for two examples, and layers compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients.layers._groups import Group
from influencekit.gradients.layers._layers import AnyLayer, forward_recorded, layer_blocks
from influencekit.models._task import Task
from influencekit.utils._torch import flat_gradient, plain_kernels, select_rows

__all__ = ["Reference", "agrees", "by_place", "check_unmixed", "tolerance"]

#: Two examples, and three that are two: what is right for both numbers is no coincidence.
_PAIR, _TRIPLE = (0, 1), (0, 1, 0)


@dataclass(frozen=True)
class Reference:
    """Gradients of two examples, each run by itself.

    Parameters
    ----------
    task : Task
    pair : Tensor, tuple or dict of Tensor
        Inputs of both examples.
    outputs : Tensor of shape (2, *output_shape)
        Of both examples together.
    cotangents : Tensor of shape (2, *output_shape)
    rows : dict of str to Tensor of shape (2, numel)
        Gradients of every parameter.
    unused : frozenset of str
        Parameters that the outputs do not depend on.
    dtype : torch.dtype
        That of the largest rounding in the model.
    """

    task: Task
    pair: Any
    outputs: Tensor
    cotangents: Tensor
    rows: dict[str, Tensor]
    unused: frozenset[str]
    dtype: torch.dtype

    @classmethod
    def of(
        cls, task: Task, pair: Any, alone: Sequence[Any], outputs: Tensor, dtype: torch.dtype
    ) -> Reference:
        """Differentiate both examples; refuse a model whose examples depend on each other."""
        rows: dict[str, list] = {name: [] for name in task.parameters}
        wanted, used = tuple(task.parameters.values()), set()
        cotangents = _pattern(outputs)
        for i, inputs in enumerate(alone):
            with torch.enable_grad(), plain_kernels():
                single = _forward_alone(task, inputs)
            check_unmixed(task, single.detach(), outputs[i : i + 1].detach(), dtype)
            grads = torch.autograd.grad(single, wanted, cotangents[i : i + 1], allow_unused=True)
            for (name, p), g in zip(task.parameters.items(), grads, strict=True):
                rows[name].append(flat_gradient(g, p))
                used |= {name} if g is not None else set()
        found = {name: torch.stack(parts) for name, parts in rows.items()}
        unused = frozenset(set(found) - used)
        return cls(task, pair, outputs.detach(), cotangents, found, unused, dtype)

    @property
    def scale(self) -> float:
        """The largest entry of all gradients."""
        return max((float(g.abs().max()) for g in self.rows.values() if g.numel()), default=0.0)

    def agrees(self, found: Tensor, names: Sequence[str], order: Sequence[int] = _PAIR) -> bool:
        """Whether rows are the gradients of these parameters, for the examples in some order."""
        expected = torch.cat([self.rows[name] for name in names], dim=1)[list(order)]
        return agrees(found, expected, self.scale, self.dtype)

    def groups(
        self, layers: Sequence[AnyLayer], outputs: Tensor, calls: list, order: Sequence[int] = _PAIR
    ) -> list[Group]:
        """The layers, by weight, whose gradients agree, from a pass over examples in some order."""
        names = {id(p): name for name, p in self.task.parameters.items()}
        options: dict = {"keep_factors": True, "dtype": self.task.dtype}
        cotangents = self.cotangents[list(order), None]
        blocks = layer_blocks(layers, outputs, calls, cotangents, **options)
        good = []
        for group in by_place(layers):
            own = tuple(names[id(p)] for p in group[0].trained)
            if any(layer.name not in blocks for layer in group):
                continue
            found = reduce(torch.add, (blocks[layer.name].dense() for layer in group))
            if self.agrees(found, own, order):
                good.append(Group(tuple(group), own))
        return good

    def tried(self, layers: Sequence[AnyLayer]) -> list[Group]:
        """The same from passes over two and over three examples; none where they fail."""
        groups = [Group(tuple(layers), ())]
        for order in (_TRIPLE, _PAIR):
            some = [layer for group in groups for layer in group.layers]
            groups = self._tried(some, order) if some else []
        return groups

    def _tried(self, layers: Sequence[AnyLayer], order: Sequence[int]) -> list[Group]:
        n = len(self.outputs)
        rows = torch.tensor(order, device=self.outputs.device)
        expected = self.outputs[rows]
        try:
            outputs, calls = forward_recorded(self.task, layers, select_rows(self.pair, rows, n))
            found, size = outputs.detach(), float(expected.abs().max())
            same = agrees(found, expected, size, self.dtype)
            return self.groups(layers, outputs, calls, order) if same else []
        except Exception:  # whatever a model raises that does not take an expanded tensor
            return []


def by_place(layers: Sequence[AnyLayer]) -> list[list[AnyLayer]]:
    """Layers grouped by weight, in order of their first use."""
    groups: dict[int, list[AnyLayer]] = {}
    for layer in layers:
        groups.setdefault(layer.place, []).append(layer)
    return list(groups.values())


def _pattern(outputs: Tensor) -> Tensor:
    """Cotangents without zeros or symmetry, the same on every device."""
    count = torch.arange(1, outputs.numel() + 1, device=outputs.device, dtype=torch.float32)
    return torch.cos(count).to(outputs.dtype).view(outputs.shape)


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference that counts as rounding."""
    return 2 * torch.finfo(dtype).eps ** 0.5


def agrees(found: Tensor, expected: Tensor, scale: float, dtype: torch.dtype) -> bool:
    """Whether gradients agree, given the largest gradient of all parameters."""
    floor = 100 * torch.finfo(dtype).eps * scale
    allowed = tolerance(dtype) * float(expected.abs().max()) + floor
    return found.shape == expected.shape and bool(((found - expected).abs() <= allowed).all())


def _forward_alone(task: Task, inputs: Any) -> Tensor:
    """Outputs of a single example."""
    try:
        return task.forward(inputs)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{_mixed(task)} The first example alone fails with: {error}"
        ) from error


def check_unmixed(task: Task, single: Tensor, together: Tensor, dtype: torch.dtype) -> None:
    """Refuse a model whose outputs of an example change with the other examples of the batch."""
    if single.shape == together.shape:
        allowed = 10 * tolerance(dtype) * (1e-30 + float(single.abs().max()))
        if bool(((single - together).abs() <= allowed).all()) or bool(single.isnan().any()):
            return
    raise UnsupportedModelError(_mixed(task))


def _mixed(task: Task) -> str:
    return (
        f"model: an example's outputs change with the other examples in the batch of {task.name}, "
        "so it has no gradient per example. Causes: batch statistics (BatchNorm with "
        "track_running_stats=False), attention or normalization across the batch dimension, a "
        "batch that is not the first dimension, or noise drawn in forward even in eval mode. "
        "Replace that operation, or give the model inputs whose first dimension runs over examples."
    )
