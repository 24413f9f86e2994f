"""How the gradient of each parameter is computed: determined on real examples, and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._per_example import dense_rows
from influencekit.gradients.blocks._base import WORKSPACE, BlockSpec
from influencekit.gradients.layers._broadcast import broadcast_groups
from influencekit.gradients.layers._groups import Group, Trust
from influencekit.gradients.layers._layers import LOG, AnyLayer, Layer, forward_recorded
from influencekit.gradients.layers._rules import own_parameters, rule_for
from influencekit.gradients.layers._verified import Reference
from influencekit.models._task import Task
from influencekit.utils._torch import (
    count_rows,
    count_saved_bytes,
    has_reentrant_checkpoints,
    no_hidden_loops,
    plain_kernels,
    select_rows,
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
    layers, once = _placed(task, _candidates(task), pair, triple)
    outputs, calls = forward_recorded(task, layers, pair)
    _refuse_reentrant(task, outputs)
    coarsest = _coarsest(task, [y for _, _, y in calls])
    known = Reference.of(task, pair, alone, outputs, coarsest)
    groups = known.groups(layers, outputs, calls)
    del outputs, calls
    columns = _parameter_columns(task)
    rest = _without(columns, groups)
    if rest:
        groups += broadcast_groups(known, once, rest)
        rest = _without(columns, groups)
    vmaps = _fallback_vmaps(known, tuple(rest))
    if not vmaps:
        LOG.warning(SLOW, ", ".join(rest))
    activation_bytes = _activation_bytes(task, pair, triple)
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


def _candidates(task: Task) -> list[Layer]:
    """Layers with a rule whose parameters are not shared, except for a weight without bias."""
    owners = Counter(id(p) for module in task.module.modules() for _, p in own_parameters(module))
    columns = {
        id(p): c
        for p, c in zip(task.parameters.values(), _parameter_columns(task).values(), strict=True)
    }
    layers = []
    for name, module in task.module.named_modules():
        own = [p for _, p in own_parameters(module) if p.requires_grad]
        shared = any(owners[id(p)] > 1 for p in own)
        rule = rule_for(module) if own and not (shared and len(own) > 1) else None
        if rule is None or (shared and rule.dense is not None):
            continue
        bias = getattr(module, "bias", None)
        weight, bias = (p is not None and p.requires_grad for p in (module.weight, bias))
        layer = Layer(name, module, rule, weight, bias, (), shared=shared)
        layers.append(replace(layer, columns=tuple(columns[id(p)] for p in layer.trained)))
    return layers


def _placed(
    task: Task, layers: list[Layer], pair: Any, triple: Any
) -> tuple[list[Layer], list[Layer]]:
    """The layers that are called, with the dimension that grows with the number of examples.

    The second list has those that are called once for all examples.
    """
    shapes = []
    for inputs in (pair, triple):
        _, calls = forward_recorded(task, layers, inputs)
        seen: dict[int, list] = {}
        for position, x, y in calls:
            seen.setdefault(position, []).append((x.shape, y.shape))
        shapes.append(seen)
    placed, once = [], []
    for position, layer in enumerate(layers):
        two, three = (seen.get(position, []) for seen in shapes)
        dims = {
            _batch_dim(a, b)
            for s, t in zip(two, three, strict=False)
            for a, b in zip(s, t, strict=True)
        }
        dim = dims.pop() if len(two) == len(three) > 0 and len(dims) == 1 else None
        if dim is not None:
            placed.append(replace(layer, batch_dim=dim))
        elif two == three and two:
            first = all(len(s) > 0 and s[0] == 1 for call in two for s in call)
            once.append(replace(layer, spread="first" if first else "new"))
    return placed, once


def _batch_dim(two: torch.Size, three: torch.Size) -> int | None:
    """The one dimension that is k * 2 in one shape and k * 3 in the other."""
    if len(two) != len(three):
        return None
    moved = [d for d, (s, t) in enumerate(zip(two, three, strict=True)) if s != t]
    if len(moved) != 1 or two[moved[0]] * 3 != three[moved[0]] * 2:
        return None
    return moved[0]


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


def _activation_bytes(task: Task, pair: Any, triple: Any) -> int:
    """Bytes that the forward pass keeps for the backward pass, for one more example."""
    sizes = []
    for inputs in (pair, triple):
        with count_saved_bytes() as saved, torch.enable_grad(), plain_kernels():
            task.forward(inputs)
        sizes.append(saved.total)
    return max(0, sizes[1] - sizes[0])


def _parameter_columns(task: Task) -> dict[str, slice]:
    """Position of every trainable parameter in the flat gradient."""
    columns, start = {}, 0
    for name, p in task.parameters.items():
        columns[name] = slice(start, start + p.numel())
        start += p.numel()
    return columns
