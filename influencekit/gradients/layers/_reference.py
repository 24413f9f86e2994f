"""Gradients of two examples, each run by itself, that all other ways are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients.layers._candidates import call_shapes
from influencekit.gradients.layers._groups import Group, sizes_of
from influencekit.gradients.layers._layers import (
    AnyLayer,
    Layer,
    forward_recorded,
    layer_blocks,
)
from influencekit.gradients.layers._mixing import check_unmixed, mixed
from influencekit.models._task import Task
from influencekit.utils._torch import (
    MODULE_LOCK,
    flat_gradient,
    has_reentrant_checkpoints,
    largest,
    largest_difference,
    rounding_floor,
    select_rows,
    tolerance,
)

__all__ = ["PAIR", "TRIPLE", "Reference", "agrees", "refuse_reentrant"]

#: Positions of two examples, the same with the first again, and one: shapes that fit all are right.
PAIR, TRIPLE, _ALONE = (0, 1), (0, 1, 0), (0,)


@dataclass(frozen=True)
class Reference:
    """Gradients of two examples, each run by itself.

    Parameters
    ----------
    task : Task
    pair : Tensor, tuple or dict of Tensor
        Inputs of both examples.
    outputs : Tensor of shape (2, *output_shape)
        Of both examples, each by itself.
    cotangents : Tensor of shape (2, *output_shape)
    rows : dict of str to list of Tensor of shape (numel,)
        Gradients of every parameter, of both examples.
    unused : frozenset of str
        Parameters that the outputs do not depend on.
    dtype : torch.dtype
        That of the largest rounding in the model.
    """

    task: Task
    pair: Any
    outputs: Tensor
    cotangents: Tensor
    rows: dict[str, list[Tensor]]
    unused: frozenset[str]
    dtype: torch.dtype

    @classmethod
    def of(
        cls, task: Task, pair: Any, alone: Sequence[Any], watch: Sequence[Layer]
    ) -> tuple[Reference, dict[int, list]]:
        """Differentiate both examples.

        Second are the shapes of the watched layers' calls by the first example.
        """
        first, calls = _forward_alone(task, watch, alone[0])
        refuse_reentrant(task, first)
        ones, dtype = call_shapes(calls), _coarsest(task, [y for _, _, y in calls])
        del calls
        cotangents = _pattern(first, len(alone))
        outputs, grads = [], []
        for i, inputs in enumerate(alone):
            single = _forward_alone(task, (), inputs)[0] if i else first
            if single.shape != cotangents[:1].shape:
                raise UnsupportedModelError(mixed(task))
            outputs.append(single.detach())
            wanted = tuple(task.parameters.values())
            cotangent = cotangents[i : i + 1]
            grads.append(torch.autograd.grad(single, wanted, cotangent, allow_unused=True))
            del single
        rows: dict[str, list] = {}
        for (name, p), both in zip(task.parameters.items(), zip(*grads, strict=True), strict=True):
            rows[name] = [flat_gradient(g, p) for g in both]
        found = zip(rows, zip(*grads, strict=True), strict=True)
        unused = frozenset(name for name, both in found if all(g is None for g in both))
        return cls(task, pair, torch.cat(outputs), cotangents, rows, unused, dtype), ones

    def check_unmixed(self, outputs: Tensor) -> None:
        """Refuse a model whose outputs of both examples together are not those of each alone."""
        if self.task.convex:  # whose module is the package's own
            return
        if len(outputs) != len(self.outputs):
            raise UnsupportedModelError(mixed(self.task))
        for i in range(len(outputs)):
            single = self.outputs[i : i + 1]
            check_unmixed(self.task, single, outputs[i : i + 1].detach(), self.dtype)

    @cached_property
    def scale(self) -> float:
        """The largest entry of all gradients."""
        return max((largest(g) for rows in self.rows.values() for g in rows), default=0.0)

    def agrees(self, found: Tensor, names: Sequence[str], order: Sequence[int] = PAIR) -> bool:
        """Whether rows are the gradients of these parameters, for the examples in some order."""
        expected = {i: self._joined(names, i) for i in set(order)}
        if found.shape != (len(order), sum(self.rows[name][0].numel() for name in names)):
            return False
        size = max(map(largest, expected.values()))
        off = (largest_difference(own, expected[i]) for own, i in zip(found, order, strict=True))
        most = allowed(size, self.scale, self.dtype)
        return all(difference <= most for difference in off)

    def _joined(self, names: Sequence[str], example: int) -> Tensor:
        parts = [self.rows[name][example] for name in names]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def groups(
        self, layers: Sequence[AnyLayer], outputs: Tensor, calls: list, order: Sequence[int] = PAIR
    ) -> list[Group]:
        """The layers, by weight, whose gradients agree, from a pass over examples in some order."""
        names = {id(p): name for name, p in self.task.parameters.items()}
        options: dict = {"keep_factors": True, "dtype": self.task.dtype}
        cotangents = self.cotangents[list(order), None]
        blocks = layer_blocks(layers, outputs, calls, cotangents, **options)
        with MODULE_LOCK:  # a pass in another thread exchanges the module's parameters for a while
            grouped = _by_place(layers)
            trained = [tuple(names[id(p)] for p in group[0].trained) for group in grouped]
        good = []
        for group, own in zip(grouped, trained, strict=True):
            if any(layer.name not in blocks for layer in group):
                continue
            made = [blocks[layer.name] for layer in group]
            found = reduce(torch.add, (block.dense() for block in made))
            if self.agrees(found, own, order):
                good.append(Group(tuple(group), own, sizes_of(group, made)))
        return good

    def tried(self, layers: Sequence[AnyLayer]) -> list[Group]:
        """The same from passes over three and two examples; none where they or one alone fail."""
        groups = [Group(tuple(layers), ())]
        for order in (TRIPLE, PAIR):
            some = [layer for group in groups for layer in group.layers]
            groups = self._tried(some, order) if some else []
        some = [layer for group in groups for layer in group.layers]
        if some and not self.task.needs_two and self._recorded(some, _ALONE) is None:
            return []
        return groups

    def together(
        self, layers: Sequence[AnyLayer], spread: Sequence[AnyLayer], moved: Callable
    ) -> list[Group]:
        """Groups of all layers, from one pass over two examples, if all agree; else none.

        Those that are ``spread`` have to run with one example too. That they are right with more
        than two is seen when gradients of the first batch are checked. ``moved(outputs)`` refuses
        outputs of the two.
        """
        try:
            groups = self._all_tried([*layers, *spread], moved)
        except UnsupportedModelError:  # said of the model as it is
            return []
        if not groups:
            return []
        fails = not self.task.needs_two and self._recorded(spread, _ALONE) is None
        return [] if fails else groups

    def _all_tried(self, layers: Sequence[AnyLayer], look: Callable[[Tensor], None]) -> list[Group]:
        found = self._recorded(layers, PAIR)
        if found is None:
            return []
        look(found[0].detach())
        try:
            groups = self.groups(layers, *found)
        except Exception:  # whatever a rule raises for an expanded tensor
            return []
        return groups if len(groups) == len(_by_place(layers)) else []

    def _tried(self, layers: Sequence[AnyLayer], order: Sequence[int]) -> list[Group]:
        found = self._recorded(layers, order)
        try:
            return [] if found is None else self.groups(layers, *found, order)
        except Exception:  # whatever a rule raises for an expanded tensor
            return []

    def _recorded(
        self, layers: Sequence[AnyLayer], order: Sequence[int]
    ) -> tuple[Tensor, list] | None:
        """Outputs and calls of the layers for the examples in some order, if outputs stay."""
        rows = torch.tensor(order, device=self.outputs.device)
        inputs = select_rows(self.pair, rows, len(self.outputs))
        expected = self.outputs[rows]
        try:
            outputs, calls = forward_recorded(self.task, layers, inputs)
            found, size = outputs.detach(), largest(expected)
            return (outputs, calls) if agrees(found, expected, size, self.dtype) else None
        except Exception:  # whatever a model raises that does not take an expanded tensor
            return None


def _by_place(layers: Sequence[AnyLayer]) -> list[list[AnyLayer]]:
    """Layers grouped by weight, in order of their first use."""
    groups: dict[int, list[AnyLayer]] = {}
    for layer in layers:
        groups.setdefault(layer.place, []).append(layer)
    return list(groups.values())


def _pattern(single: Tensor, n: int) -> Tensor:
    """Cotangents of n examples, without zeros or symmetry, the same on every device."""
    count = torch.arange(1, n * single.numel() + 1, device=single.device, dtype=torch.float32)
    return torch.cos(count).to(single.dtype).view(n, *single.shape[1:])


def refuse_reentrant(task: Task, outputs: Tensor) -> None:
    """Refuse reentrant checkpoints: only ``backward`` reaches the parameters inside them."""
    if has_reentrant_checkpoints(outputs):
        raise UnsupportedModelError(
            f"model: {task.name} has reentrant checkpoints, which give no gradients of single "
            "outputs. Use torch.utils.checkpoint.checkpoint(..., use_reentrant=False), or "
            "switch checkpointing off: gradients are the same."
        )


def _coarsest(task: Task, outputs: Sequence[Tensor]) -> torch.dtype:
    """The dtype of largest rounding that the model computes in, under autocast too."""
    own = [p.dtype for p in task.parameters.values()]
    found = [y.dtype for y in outputs if y.is_floating_point()]
    return max(own + found, key=lambda dtype: torch.finfo(dtype).eps)


def agrees(found: Tensor, expected: Tensor, scale: float, dtype: torch.dtype) -> bool:
    """Whether gradients agree, given the largest gradient of all parameters."""
    if found.shape != expected.shape:
        return False
    return largest_difference(found, expected) <= allowed(largest(expected), scale, dtype)


def allowed(size: float, scale: float, dtype: torch.dtype) -> float:
    """How far gradients of a size may be off, given the largest of all parameters."""
    return tolerance(dtype) * size + rounding_floor(dtype) * scale


def _forward_alone(task: Task, layers: Sequence[Layer], inputs: Any) -> tuple[Tensor, list]:
    """Outputs of a single example, and calls of some layers."""
    try:
        return forward_recorded(task, layers, inputs, as_given=True)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{mixed(task)} The first example alone fails with: {error}"
        ) from error
