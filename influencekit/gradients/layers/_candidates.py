"""Which layers a model has: by their kind, or by what it calls ``F.linear`` with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.gradients.layers._layers import Layer
from influencekit.gradients.layers._linear_calls import linear_uses
from influencekit.gradients.layers._rules import RULES, own_parameters, rule_for
from influencekit.models._task import Task
from influencekit.utils._torch import plain_kernels

__all__ = ["call_shapes", "called_linear", "candidates", "placed"]

#: A layer's position, its inputs and its outputs.
Call = tuple[int, Tensor, Tensor]


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
    layers: list[Layer], calls: Sequence[Call], others: dict[int, list], n: int
) -> tuple[list[Layer], list[Layer], list[Call]]:
    """The layers that are called, with the dimension that grows with the number of examples.

    Parameters
    ----------
    layers : list of Layer
    calls : sequence of (int, Tensor, Tensor)
        Calls of the layers in a pass over two examples.
    others : dict of int to list
        Shapes of their calls in a pass over another number of examples.
    n : int
        That number.

    Returns
    -------
    found : list of Layer
    once : list of Layer
        Those that are called once for all examples.
    own : list of (int, Tensor, Tensor)
        Calls of the layers that were found.
    """
    twos = call_shapes(calls)
    found: list[Layer] = []
    once: list[Layer] = []
    numbers: dict[int, int] = {}
    for position, layer in enumerate(layers):
        two, other = (seen.get(position, []) for seen in (twos, others))
        dims = {
            _batch_dim(a, b, n)
            for s, t in zip(two, other, strict=False)
            for a, b in zip(s, t, strict=True)
        }
        dim = dims.pop() if len(two) == len(other) > 0 and len(dims) == 1 else None
        if dim is not None:
            numbers[position] = len(found)
            found.append(replace(layer, batch_dim=dim))
        elif two == other and two:
            first = all(len(s) > 0 and s[0] == 1 for call in two for s in call)
            once.append(replace(layer, spread="first" if first else "new"))
    return found, once, [(numbers[i], x, y) for i, x, y in calls if i in numbers]


def call_shapes(calls: Sequence[Call]) -> dict[int, list]:
    """Shapes of inputs and outputs of every call, by the layer's position."""
    seen: dict[int, list] = {}
    for position, x, y in calls:
        seen.setdefault(position, []).append((x.shape, y.shape))
    return seen


def _batch_dim(two: torch.Size, other: torch.Size, n: int) -> int | None:
    """The one dimension that is k * 2 in one shape and k * n in the other."""
    if len(two) != len(other):
        return None
    moved = [d for d, (s, t) in enumerate(zip(two, other, strict=True)) if s != t]
    if len(moved) != 1 or two[moved[0]] * n != other[moved[0]] * 2:
        return None
    return moved[0]
