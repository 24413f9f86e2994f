"""How the gradient of each parameter is computed: determined on real examples, and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._per_example import dense_rows
from influencekit.gradients.blocks._base import WORKSPACE, BlockSpec
from influencekit.gradients.layers._broadcast import all_groups, broadcast_groups
from influencekit.gradients.layers._candidates import (
    Call,
    call_shapes,
    called_linear,
    candidates,
    placed,
)
from influencekit.gradients.layers._groups import Group, Sizes, Trust
from influencekit.gradients.layers._image_format import with_fastest_images
from influencekit.gradients.layers._layers import (
    LOG,
    AnyLayer,
    Layer,
    forward_recorded,
)
from influencekit.gradients.layers._mixing import check_not_moved
from influencekit.gradients.layers._reference import PAIR, TRIPLE, Reference, agrees
from influencekit.models._task import Task
from influencekit.models.snapshot._repeats import State
from influencekit.utils._torch import (
    MODULE_LOCK,
    count_rows,
    count_saved_bytes,
    largest,
    no_hidden_loops,
    select_rows,
)

__all__ = ["REST", "Layout", "discover", "forget_changed"]

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
    sizes : pair of Sizes
        Bytes of one gradient of an example, as it is made and with all factors.
    activation_bytes : int
        Bytes that the forward pass keeps for one example.
    trust : Trust
        Which layers are still believed; it changes as batches are checked.
    state : State or None
        The module as it was; None of the package's own modules.
    """

    layers: tuple[AnyLayer, ...]
    groups: tuple[Group, ...]
    rest: tuple[str, ...]
    rest_columns: tuple[slice, ...]
    rest_vmaps: bool
    n_parameters: int
    sizes: tuple[Sizes, Sizes]
    activation_bytes: int
    trust: Trust
    state: State | None

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


_KNOWN: WeakKeyDictionary[Task, Layout] = WeakKeyDictionary()


def forget_changed(task: Task) -> None:
    """Forget how gradients are computed if the module is not what it was then."""
    known = _KNOWN.get(task)
    if known is not None and known.state is not None and not known.state.stays():
        _KNOWN.pop(task, None)  # another thread may have done it


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
    known = _KNOWN.get(task)
    if known is None:
        inputs = first_inputs()
        known = with_fastest_images(task, inputs, lambda: _discover(task, inputs))
        _KNOWN[task] = known
    return known


def _discover(task: Task, inputs: Any) -> Layout:
    n = count_rows(inputs)
    first, second = 0, min(1, n - 1)
    pair, twins = (
        select_rows(inputs, torch.tensor(rows, device=task.device), n)
        for rows in ([first, second], [first, first])
    )
    alone = [select_rows(inputs, slice(i, i + 1), n) for i in (first, second)]
    with MODULE_LOCK:  # a pass in another thread exchanges the module's parameters for a while
        _refuse_replaced(task)
        columns = _parameter_columns(task)
        state = None if task.convex else State(task.module)
        some = candidates(task, columns)
    known, ones = Reference.of(task, pair, alone, some)
    with count_saved_bytes(task.parameters.values()) as saved:
        outputs, calls = forward_recorded(task, some, twins)
    check = partial(_check_pair, known, (pair, twins), outputs.detach())
    layers, once, _ = _placed(known, some, calls, ones)
    del outputs, calls
    groups = all_groups(known, layers, once, columns, check)
    if not groups:
        outputs, calls = forward_recorded(task, some, pair)
        check(outputs.detach())
        layers, once, calls = _placed(known, some, calls, ones)
        groups = known.groups(layers, outputs, calls)
        del outputs, calls
    rest = _without(columns, groups)
    if rest:
        groups += _called_groups(known, _without_layers(rest, known, once), alone[0])
        rest = _without(columns, groups)
    if rest:
        groups += broadcast_groups(known.tried, task, known.unused, once, rest)
        rest = _without(columns, groups)
    vmaps = _fallback_vmaps(known, tuple(rest))
    if not vmaps:
        LOG.warning(SLOW, ", ".join(rest))
    activation_bytes = saved.total // len(PAIR)
    return Layout(
        tuple(layer for group in groups for layer in group.layers),
        tuple(groups),
        tuple(rest),
        tuple(rest.values()),
        vmaps,
        task.n_parameters,
        _sizes(groups, Sizes.of(sum(c.stop - c.start for c in rest.values()), task.dtype)),
        activation_bytes,
        Trust(task.n_parameters + activation_bytes // 4, known.dtype),
        state,
    )


def _check_pair(known: Reference, inputs: tuple[Any, Any], twins: Tensor, outputs: Tensor) -> None:
    """Refuse outputs of two examples together that depend on each other."""
    if not known.task.convex:  # whose module is the package's own
        known.check_unmixed(outputs)
        check_not_moved(known.task, inputs, (outputs, twins), known.dtype)


def _placed(
    known: Reference, layers: list[Layer], calls: Sequence[Call], ones: dict[int, list]
) -> tuple[list[Layer], list[Layer], list[Call]]:
    """The layers that the pair calls, placed by calls of one example, else of three."""
    task, called = known.task, {position for position, _, _ in calls}
    if not task.needs_two:
        placed_by_one = placed(layers, calls, ones, 1)
        if len(placed_by_one[0]) + len(placed_by_one[1]) == len(called):
            return placed_by_one
    threes = select_rows(known.pair, torch.tensor(TRIPLE, device=task.device), 2)
    return placed(layers, calls, call_shapes(forward_recorded(task, layers, threes)[1]), 3)


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


def _called_groups(known: Reference, rest: dict[str, slice], alone: Any) -> list[Group]:
    """Groups of the weights that ``F.linear`` is called with, whose gradients agree."""
    try:
        some = called_linear(known.task, rest, known.pair)
        if not some:
            return []
        outputs, calls = forward_recorded(known.task, some, known.pair)
        ones = call_shapes(forward_recorded(known.task, some, alone)[1])
        found, _, calls = _placed(known, some, calls, ones)
        size = largest(known.outputs)
        if not found or not agrees(outputs.detach(), known.outputs, size, known.dtype):
            return []
        good = known.groups(found, outputs, calls)
        done = {layer.place for group in good for layer in group.layers}
        left = [replace(layer, inner=True) for layer in found if layer.place not in done]
        return good + (known.tried(left) if left else [])
    except Exception:  # whatever a model raises that takes no steps of its own
        return []


def _sizes(groups: Sequence[Group], rest: Sizes) -> tuple[Sizes, Sizes]:
    """Bytes of one gradient of an example: of all groups, and of what is dense."""
    made, kept = (reduce(Sizes.beside, (g.sizes[i] for g in groups), rest) for i in (0, 1))
    return made, kept


def _without(columns: dict[str, slice], groups: Sequence[Group]) -> dict[str, slice]:
    """Positions of the parameters that are in no group."""
    covered = {name for group in groups for name in group.names}
    return {name: places for name, places in columns.items() if name not in covered}


def _refuse_replaced(task: Task) -> None:
    """Refuse a module that does not compute with the task's parameters any more."""
    own = {id(p) for p in task.parameters.values()}
    if any(p.requires_grad and id(p) not in own for p in task.module.parameters()):
        raise UnsupportedModelError(
            f"model: parameters were replaced in {task.name} after it was read, so gradients would "
            "be those of the old ones. Accepted is a module that keeps its parameters; change them "
            "in place, or read the changed model again."
        )


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
