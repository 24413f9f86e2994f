"""How the gradient of each parameter is computed: determined on real examples, and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._per_example import dense_rows
from influencekit.gradients.blocks._base import WORKSPACE, BlockSpec
from influencekit.gradients.layers._broadcast import broadcast_groups
from influencekit.gradients.layers._candidates import (
    call_shapes,
    called_linear,
    candidates,
    placed,
)
from influencekit.gradients.layers._groups import Group, Trust
from influencekit.gradients.layers._layers import (
    LOG,
    AnyLayer,
    Layer,
    forward_recorded,
    layer_blocks,
)
from influencekit.gradients.layers._mixing import check_not_moved, check_unmixed, mixed
from influencekit.models._task import Task
from influencekit.utils._torch import (
    count_rows,
    count_saved_bytes,
    flat_gradient,
    has_reentrant_checkpoints,
    no_hidden_loops,
    plain_kernels,
    rounding_floor,
    select_rows,
    tolerance,
)

__all__ = ["REST", "Layout", "discover"]

#: Name of the block that collects everything without factors.
REST = "rest"
SLOW = "gradients of %s are taken one example at a time, which is slow"


@dataclass(frozen=True, eq=False)
class Layout:
    """How the gradient of a task is computed: layers by rule, the rest by differentiation.

    Parameters
    ----------
    layers : tuple of Layer or BareParameter
    groups : tuple of Group
        The layers by weight.
    rest : tuple of str
        Names of the parameters that use the dense fallback.
    rest_vmaps : bool
        Whether the fallback works under ``torch.func.vmap``; otherwise it is a loop.
    n_parameters : int
    activation_bytes : int
        Bytes that the forward pass keeps for one example.
    trust : Trust
        Which layers are still believed; it changes as batches are checked.
    """

    layers: tuple[AnyLayer, ...]
    groups: tuple[Group, ...]
    rest: tuple[str, ...]
    rest_columns: tuple[slice, ...]
    rest_vmaps: bool
    n_parameters: int
    activation_bytes: int
    trust: Trust

    @cached_property
    def rest_spec(self) -> BlockSpec:
        """Position of the block that collects everything without factors."""
        groups = {layer.place: layer.columns for layer in self.layers if not layer.has_factors}
        columns = [c for group in groups.values() for c in group]
        return BlockSpec(REST, (*columns, *self.rest_columns))

    @cached_property
    def specs(self) -> tuple[BlockSpec, ...]:
        """Specs of all blocks in order."""
        specs = tuple(layer.spec for layer in self.layers if layer.has_factors)
        return (*specs, self.rest_spec) if self.rest_spec.width else specs


#: Positions of two examples, the same with the first again, and one: shapes that fit all are right.
_PAIR, _TRIPLE, _ALONE = (0, 1), (0, 1, 0), (0,)


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
            if not task.convex:  # whose module is the package's own
                check_unmixed(task, single.detach(), outputs[i : i + 1].detach(), dtype)
            grads = torch.autograd.grad(single, wanted, cotangents[i : i + 1], allow_unused=True)
            for (name, p), g in zip(task.parameters.items(), grads, strict=True):
                rows[name].append(flat_gradient(g, p))
                used |= {name} if g is not None else set()
        found = {name: torch.stack(parts) for name, parts in rows.items()}
        unused = frozenset(set(found) - used)
        return cls(task, pair, outputs.detach(), cotangents, found, unused, dtype)

    @cached_property
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
        for group in _by_place(layers):
            own = tuple(names[id(p)] for p in group[0].trained)
            if any(layer.name not in blocks for layer in group):
                continue
            found = reduce(torch.add, (blocks[layer.name].dense() for layer in group))
            if self.agrees(found, own, order):
                good.append(Group(tuple(group), own))
        return good

    def tried(self, layers: Sequence[AnyLayer]) -> list[Group]:
        """The same from passes over three, two and one example; none where they fail."""
        groups = [Group(tuple(layers), ())]
        orders = (_TRIPLE, _PAIR) if self.task.needs_two else (_TRIPLE, _PAIR, _ALONE)
        for order in orders:
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


_KNOWN: WeakKeyDictionary[Task, Layout] = WeakKeyDictionary()


def discover(task: Task, first_inputs: Callable[[], Any]) -> Layout:
    """How the gradients of a task are computed, determined once on a batch and remembered.

    Two examples are run together and alone. A layer keeps its factored gradient only if it equals
    that of automatic differentiation for both; all other layers use the dense fallback.

    Parameters
    ----------
    task : Task
    first_inputs : callable
        Makes a batch (tensor, tuple or dict of tensors) of at least one real example; called
        only if the task is not known yet.

    Returns
    -------
    Layout

    Raises
    ------
    UnsupportedModelError
        If an example's outputs depend on the other examples in the batch.
    """
    if task not in _KNOWN:
        _KNOWN[task] = _discover(task, first_inputs())
    return _KNOWN[task]


def _discover(task: Task, inputs: Any) -> Layout:
    n = count_rows(inputs)
    first, second = 0, min(1, n - 1)
    pair, triple = (
        select_rows(inputs, torch.tensor(rows, device=task.device), n)
        for rows in ([first, second], [first, second, first])
    )
    alone = [select_rows(inputs, slice(i, i + 1), n) for i in (first, second)]
    columns = _parameter_columns(task)
    some = candidates(task, columns)
    with count_saved_bytes(task.parameters.values()) as saved:
        shapes = call_shapes(task, some, triple)
    layers, once, (outputs, calls) = placed(task, some, pair, shapes)
    _refuse_reentrant(task, outputs)
    coarsest = _coarsest(task, [y for _, _, y in calls])
    known = Reference.of(task, pair, alone, outputs, coarsest)
    if not task.convex:  # whose module is the package's own
        check_not_moved(task, pair, coarsest)
    groups = known.groups(layers, outputs, calls)
    del outputs, calls
    rest = _without(columns, groups)
    if rest:
        groups += _called_groups(known, _without_layers(rest, known, once), triple)
        rest = _without(columns, groups)
    if rest:
        groups += broadcast_groups(known.tried, task, known.unused, once, rest)
        rest = _without(columns, groups)
    vmaps = _fallback_vmaps(known, tuple(rest))
    if not vmaps:
        LOG.warning(SLOW, ", ".join(rest))
    activation_bytes = saved.total // len(_TRIPLE)
    return Layout(
        tuple(layer for group in groups for layer in group.layers),
        tuple(groups),
        tuple(rest),
        tuple(rest.values()),
        vmaps,
        task.n_parameters,
        activation_bytes,
        Trust(task.n_parameters + activation_bytes // 4, coarsest),
    )


def _without_layers(
    rest: dict[str, slice], known: Reference, layers: Sequence[Layer]
) -> dict[str, slice]:
    """Positions of the parameters that are used, and not in these layers."""
    own = {id(p) for layer in layers for p in layer.trained}
    return {
        name: places
        for name, places in rest.items()
        if name not in known.unused and id(known.task.parameters[name]) not in own
    }


def _called_groups(known: Reference, rest: dict[str, slice], triple: Any) -> list[Group]:
    """Groups of the weights that ``F.linear`` is called with, whose gradients agree."""
    try:
        some = called_linear(known.task, rest, known.pair)
        if not some:
            return []
        shapes = call_shapes(known.task, some, triple)
        found, _, (outputs, calls) = placed(known.task, some, known.pair, shapes)
        size = float(known.outputs.abs().max())
        if not found or not agrees(outputs.detach(), known.outputs, size, known.dtype):
            return []
        good = known.groups(found, outputs, calls)
        done = {layer.place for group in good for layer in group.layers}
        left = [replace(layer, inner=True) for layer in found if layer.place not in done]
        return good + (known.tried(left) if left else [])
    except Exception:  # whatever a model raises that takes no steps of its own
        return []


def _without(columns: dict[str, slice], groups: Sequence[Group]) -> dict[str, slice]:
    """Positions of the parameters that are in no group."""
    covered = {name for group in groups for name in group.names}
    return {name: places for name, places in columns.items() if name not in covered}


def _refuse_reentrant(task: Task, outputs: Tensor) -> None:
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


def _fallback_vmaps(known: Reference, names: tuple[str, ...]) -> bool:
    """Whether gradients of some parameters can be had by vmap, and agree."""
    if not names:
        return True
    task, inputs, cotangents = known.task, known.pair, known.cotangents
    try:
        with no_hidden_loops():
            several = torch.stack([cotangents, 2 * cotangents], dim=1)
            rows = dense_rows(task, names, inputs, several, workspace=WORKSPACE)
            one = dense_rows(task, names, inputs, cotangents[:, None], workspace=WORKSPACE)
    except Exception:  # whatever a model raises under a transform, the loop has no transform
        return False
    return all(known.agrees(g, names) for g in (one[:, 0], rows[:, 0], rows[:, 1] / 2))


def _parameter_columns(task: Task) -> dict[str, slice]:
    """Position of every trainable parameter in the flat gradient."""
    columns, start = {}, 0
    for name, p in task.parameters.items():
        columns[name] = slice(start, start + p.numel())
        start += p.numel()
    return columns


def _by_place(layers: Sequence[AnyLayer]) -> list[list[AnyLayer]]:
    """Layers grouped by weight, in order of their first use."""
    groups: dict[int, list[AnyLayer]] = {}
    for layer in layers:
        groups.setdefault(layer.place, []).append(layer)
    return list(groups.values())


def _pattern(outputs: Tensor) -> Tensor:
    """Cotangents without zeros or symmetry, the same on every device."""
    count = torch.arange(1, outputs.numel() + 1, device=outputs.device, dtype=torch.float32)
    return torch.cos(count).to(outputs.dtype).view(outputs.shape)


def agrees(found: Tensor, expected: Tensor, scale: float, dtype: torch.dtype) -> bool:
    """Whether gradients agree, given the largest gradient of all parameters."""
    floor = rounding_floor(dtype) * scale
    allowed = tolerance(dtype) * float(expected.abs().max()) + floor
    return found.shape == expected.shape and bool(((found - expected).abs() <= allowed).all())


def _forward_alone(task: Task, inputs: Any) -> Tensor:
    """Outputs of a single example."""
    try:
        return task.forward(inputs)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{mixed(task)} The first example alone fails with: {error}"
        ) from error
