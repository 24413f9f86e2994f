"""Which layers a model has: by their kind, or by what it calls ``F.linear`` with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.gradients.layers._layers import Layer, forward_recorded
from influencekit.gradients.layers._linear_calls import linear_uses
from influencekit.gradients.layers._rules import RULES, own_parameters, rule_for
from influencekit.models._task import Task
from influencekit.utils._torch import plain_kernels

__all__ = ["call_shapes", "called_linear", "candidates", "placed"]


def candidates(task: Task, columns: dict[str, slice]) -> list[Layer]:
    """Layers with a rule; of a shared weight and its bias each is a layer of its own."""
    owners = Counter(id(p) for module in task.module.modules() for _, p in own_parameters(module))
    places = {id(p): columns[name] for name, p in task.parameters.items()}
    layers = []
    for name, module in task.module.named_modules():
        own = [p for _, p in own_parameters(module) if p.requires_grad]
        shared = any(owners[id(p)] > 1 for p in own)
        rule = rule_for(module) if own else None
        if rule is None or (shared and rule.dense is not None):
            continue
        bias = getattr(module, "bias", None)
        weight, bias = (p is not None and p.requires_grad for p in (module.weight, bias))
        layer = Layer(name, module, rule, weight, bias, (), shared=shared)
        parts = [layer]
        if shared and weight and bias:
            alone = replace(layer, name=f"{name}.bias", trains_weight=False)
            parts = [replace(layer, trains_bias=False), alone]
        layers += [replace(one, columns=tuple(places[id(p)] for p in one.trained)) for one in parts]
    return layers


def called_linear(task: Task, columns: dict[str, slice], inputs: Any) -> list[Layer]:
    """Layers for the parameters that the model gives to ``F.linear``, from a pass of a batch."""
    wide = {id(task.parameters[name]): name for name in columns if task.parameters[name].ndim == 2}
    others = {id(task.parameters[name]): name for name in columns}
    if not wide:
        return []
    with plain_kernels():
        uses = linear_uses(lambda: task.forward(inputs), task.module, wide, others)
    layers = []
    for weight, bias, recurrent in uses:
        own: Any = nn.Module()  # torch types attributes as Tensor | Module
        own.weight = task.parameters[weight]
        own.bias = None if bias is None else task.parameters[bias]
        places = tuple(columns[name] for name in (weight, bias) if name is not None)
        options: dict = {"by_call": True, "recurrent": recurrent}
        rule = RULES[nn.Linear]
        layers.append(Layer(weight, own, rule, True, bias is not None, places, **options))
    return layers


def placed(
    task: Task, layers: list[Layer], pair: Any, threes: dict[int, list]
) -> tuple[list[Layer], list[Layer], tuple[Tensor, list]]:
    """The layers that are called, with the dimension that grows with the number of examples.

    ``threes`` are the shapes of calls with three examples. The second list has those that are
    called once for all examples. Third are the outputs of the pair, and the calls of the first
    list's layers.
    """
    outputs, calls = forward_recorded(task, layers, pair)
    twos = _shapes(calls)
    found: list[Layer] = []
    once: list[Layer] = []
    numbers: dict[int, int] = {}
    for position, layer in enumerate(layers):
        two, three = (seen.get(position, []) for seen in (twos, threes))
        dims = {
            _batch_dim(a, b)
            for s, t in zip(two, three, strict=False)
            for a, b in zip(s, t, strict=True)
        }
        dim = dims.pop() if len(two) == len(three) > 0 and len(dims) == 1 else None
        if dim is not None:
            numbers[position] = len(found)
            found.append(replace(layer, batch_dim=dim))
        elif two == three and two:
            first = all(len(s) > 0 and s[0] == 1 for call in two for s in call)
            once.append(replace(layer, spread="first" if first else "new"))
    own = [(numbers[position], x, y) for position, x, y in calls if position in numbers]
    return found, once, (outputs, own)


def call_shapes(task: Task, layers: list[Layer], inputs: Any) -> dict[int, list]:
    """Shapes of every call in a pass of a batch, by the layer's position."""
    return _shapes(forward_recorded(task, layers, inputs)[1])


def _shapes(calls: Sequence[tuple[int, Tensor, Tensor]]) -> dict[int, list]:
    """Shapes of inputs and outputs of every call, by the layer's position."""
    seen: dict[int, list] = {}
    for position, x, y in calls:
        seen.setdefault(position, []).append((x.shape, y.shape))
    return seen


def _batch_dim(two: torch.Size, three: torch.Size) -> int | None:
    """The one dimension that is k * 2 in one shape and k * 3 in the other."""
    if len(two) != len(three):
        return None
    moved = [d for d, (s, t) in enumerate(zip(two, three, strict=True)) if s != t]
    if len(moved) != 1 or two[moved[0]] * 3 != three[moved[0]] * 2:
        return None
    return moved[0]
