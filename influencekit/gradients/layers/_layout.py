"""How the gradient of each parameter is computed: determined on real examples, and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._per_example import dense_rows
from influencekit.gradients.blocks._base import WORKSPACE, BlockSpec
from influencekit.gradients.layers._groups import Group, Trust
from influencekit.gradients.layers._layers import Layer, forward_recorded, layer_blocks
from influencekit.gradients.layers._mixing import check_not_moved, check_unmixed, mixed
from influencekit.gradients.layers._rules import own_parameters, rule_for
from influencekit.models._task import Task
from influencekit.utils._torch import (
    count_rows,
    count_saved_bytes,
    flat_gradient,
    has_reentrant_checkpoints,
    no_hidden_loops,
    plain_kernels,
    select_rows,
    tolerance,
)

__all__ = ["REST", "Layout", "discover"]

#: Name of the block that collects everything without factors.
REST = "rest"


@dataclass(frozen=True, eq=False)
class Layout:
    """How the gradient of a task is computed: layers by rule, the rest by differentiation.

    Parameters
    ----------
    layers : tuple of Layer
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

    layers: tuple[Layer, ...]
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
    layers = _placed(task, _candidates(task), pair, triple)
    outputs, calls = forward_recorded(task, layers, pair)
    cotangents = _pattern(outputs)
    _refuse_reentrant(task, outputs)
    coarsest = _coarsest(task, [y for _, _, y in calls])
    reference = _reference(task, alone, cotangents, outputs, coarsest)
    if not task.convex:  # whose module is the package's own
        check_not_moved(task, pair, coarsest)
    options: dict = {"keep_factors": True, "dtype": task.dtype}
    blocks = layer_blocks(layers, outputs, calls, cotangents[:, None], **options)
    scale = max((float(g.abs().max()) for g in reference.values()), default=0.0)
    names = {id(p): name for name, p in task.parameters.items()}
    good, groups = [], []
    for group in _by_place(layers):
        own = tuple(names[id(p)] for p in _trained(group[0]))
        expected = torch.cat([reference[name] for name in own], dim=1)
        if any(layer.name not in blocks for layer in group):
            continue
        found = reduce(torch.add, (blocks[layer.name].dense() for layer in group))
        if agrees(found, expected, scale, coarsest):
            good += group
            groups.append(Group(tuple(group), own))
    covered = {names[id(p)] for layer in good for p in _trained(layer)}
    rest = tuple(name for name in task.parameters if name not in covered)
    columns = _parameter_columns(task)
    activation_bytes = _activation_bytes(task, pair, triple)
    return Layout(
        tuple(good),
        tuple(groups),
        rest,
        tuple(columns[name] for name in rest),
        _fallback_vmaps(task, rest, pair, cotangents, (reference, scale, coarsest)),
        task.n_parameters,
        activation_bytes,
        Trust(task.n_parameters + activation_bytes // 4, coarsest),
    )


def _refuse_reentrant(task: Task, outputs: Tensor) -> None:
    """Refuse reentrant checkpoints: only ``backward`` reaches the parameters inside them."""
    if has_reentrant_checkpoints(outputs):
        raise UnsupportedModelError(
            f"model: {task.name} has reentrant checkpoints, which give no gradients of single "
            "outputs. Use torch.utils.checkpoint.checkpoint(..., use_reentrant=False), or "
            "switch checkpointing off: gradients are the same."
        )


def _by_place(layers: list[Layer]) -> list[list[Layer]]:
    """Layers grouped by weight, in order of their first use."""
    groups: dict[int, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(layer.place, []).append(layer)
    return list(groups.values())


def _trained(layer: Layer) -> list[Tensor]:
    return _chosen(layer.module, layer.trains_weight, layer.trains_bias)


def _chosen(module: nn.Module, weight: bool, bias: bool) -> list[Tensor]:
    own: Any = module  # torch types attributes as Tensor | Module
    return [own.weight] * weight + ([own.bias] if bias else [])


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
        places = tuple(columns[id(p)] for p in _chosen(module, weight, bias))
        layers.append(Layer(name, module, rule, weight, bias, places, shared=shared))
    return layers


def _placed(task: Task, layers: list[Layer], pair: Any, triple: Any) -> list[Layer]:
    """The layers that are called, with the dimension that grows with the number of examples."""
    shapes = []
    for inputs in (pair, triple):
        _, calls = forward_recorded(task, layers, inputs)
        seen: dict[int, list] = {}
        for position, x, y in calls:
            seen.setdefault(position, []).append((x.shape, y.shape))
        shapes.append(seen)
    placed = []
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
    return placed


def _batch_dim(two: torch.Size, three: torch.Size) -> int | None:
    """The one dimension that is k * 2 in one shape and k * 3 in the other."""
    if len(two) != len(three):
        return None
    moved = [d for d, (s, t) in enumerate(zip(two, three, strict=True)) if s != t]
    if len(moved) != 1 or two[moved[0]] * 3 != three[moved[0]] * 2:
        return None
    return moved[0]


def _pattern(outputs: Tensor) -> Tensor:
    """Cotangents without zeros or symmetry, the same on every device."""
    count = torch.arange(1, outputs.numel() + 1, device=outputs.device, dtype=torch.float32)
    return torch.cos(count).to(outputs.dtype).view(outputs.shape)


def _coarsest(task: Task, outputs: Sequence[Tensor]) -> torch.dtype:
    """The dtype of largest rounding that the model computes in, under autocast too."""
    own = [p.dtype for p in task.parameters.values()]
    found = [y.dtype for y in outputs if y.is_floating_point()]
    return max(own + found, key=lambda dtype: torch.finfo(dtype).eps)


def agrees(found: Tensor, expected: Tensor, scale: float, dtype: torch.dtype) -> bool:
    """Whether gradients agree, given the largest gradient of all parameters."""
    floor = 100 * torch.finfo(dtype).eps * scale
    allowed = tolerance(dtype) * float(expected.abs().max()) + floor
    return found.shape == expected.shape and bool(((found - expected).abs() <= allowed).all())


def forward_alone(task: Task, inputs: Any) -> Tensor:
    """Outputs of a single example."""
    try:
        return task.forward(inputs)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{mixed(task)} The first example alone fails with: {error}"
        ) from error


def _reference(
    task: Task, alone: Sequence[Any], cotangents: Tensor, outputs: Tensor, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Gradients (2, numel) of every parameter by autograd, each example run by itself."""
    rows: dict[str, list] = {name: [] for name in task.parameters}
    wanted = tuple(task.parameters.values())
    for i, inputs in enumerate(alone):
        with torch.enable_grad(), plain_kernels():
            single = forward_alone(task, inputs)
        if not task.convex:  # whose module is the package's own
            check_unmixed(task, single.detach(), outputs[i : i + 1].detach(), dtype)
        grads = torch.autograd.grad(single, wanted, cotangents[i : i + 1], allow_unused=True)
        for (name, p), g in zip(task.parameters.items(), grads, strict=True):
            rows[name].append(flat_gradient(g, p))
    return {name: torch.stack(parts) for name, parts in rows.items()}


def _fallback_vmaps(
    task: Task, names: tuple[str, ...], inputs: Any, cotangents: Tensor, known: tuple
) -> bool:
    if not names:
        return True
    try:
        with no_hidden_loops():
            several = torch.stack([cotangents, 2 * cotangents], dim=1)
            rows = dense_rows(task, names, inputs, several, workspace=WORKSPACE)
            one = dense_rows(task, names, inputs, cotangents[:, None], workspace=WORKSPACE)
    except Exception:  # whatever a model raises under a transform, the loop has no transform
        return False
    reference, scale, dtype = known
    expected = torch.cat([reference[name] for name in names], dim=1)
    found = (one[:, 0], rows[:, 0], rows[:, 1] / 2)
    return all(agrees(part, expected, scale, dtype) for part in found)


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
