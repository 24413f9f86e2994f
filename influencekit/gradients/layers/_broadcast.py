"""What a model uses once for all examples: layers called without a batch, bare parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from influencekit.gradients.layers._bare import BareParameter
from influencekit.gradients.layers._groups import Group, Sizes
from influencekit.gradients.layers._layers import AnyLayer, Layer
from influencekit.gradients.layers._reference import Reference
from influencekit.models._task import Task

__all__ = ["all_groups", "broadcast_groups"]

#: Largest number of dimensions between the examples and a parameter's own.
_MOST_ONES = 3
#: Passes over two examples after the first that a kind of parameter may take.
_MOST_TRIES = 8


Try = Callable[[Sequence[AnyLayer]], list[Group]]


def all_groups(
    known: Reference,
    layers: Sequence[Layer],
    once: Sequence[Layer],
    columns: dict[str, slice],
    check: Callable[[Tensor], None],
) -> list[Group]:
    """Groups of a whole model in which only vectors and tables of positions are broadcast.

    As nearly always, all gradients then agree in one pass. None if one does not, or if a matrix
    belongs to no layer.

    Parameters
    ----------
    known : Reference
    layers : sequence of Layer
    once : sequence of Layer
        Called once for all examples.
    columns : dict of str to slice
        Positions of all parameters.
    check : callable
        Refuses outputs of both examples together that depend on each other.
    """
    task = known.task
    covered = {id(p) for layer in (*layers, *once) for p in layer.trained}
    bare = [
        BareParameter(name, p, (columns[name],), used=name not in known.unused)
        for name, p in task.parameters.items()
        if id(p) not in covered
    ]
    used = [_formed(own, 0) for own in bare if own.used]
    if not (once or used) or any(own.parameter.ndim == 2 for own in bare):
        return []
    groups = known.together(layers, [*once, *(own for own in used if own is not None)], check)
    return groups and groups + _idle(bare, task.dtype)


def _idle(bare: Sequence[BareParameter], dtype: torch.dtype) -> list[Group]:
    """Groups of the parameters that outputs do not depend on."""
    idle = [own for own in bare if not own.used]
    sizes = (Sizes.of(own.parameter.numel(), dtype) for own in idle)
    return [Group((o,), (o.name,), (s, s)) for o, s in zip(idle, sizes, strict=True)]


def broadcast_groups(
    tried: Try,
    task: Task,
    unused: frozenset[str],
    layers: Sequence[Layer],
    columns: dict[str, slice],
) -> list[Group]:
    """Groups of layers and parameters whose gradients agree once they are expanded to the batch.

    Parameters
    ----------
    tried : callable
        Gives the groups whose gradients agree in a pass of their own.
    task : Task
    unused : frozenset of str
        Parameters that the outputs do not depend on.
    layers : sequence of Layer
        Called once for all examples.
    columns : dict of str to slice
        Positions of the parameters that have no gradients yet.

    Returns
    -------
    list of Group
    """
    bare = {
        name: BareParameter(name, task.parameters[name], (places,), used=name not in unused)
        for name, places in columns.items()
    }
    found = _idle(list(bare.values()), task.dtype)
    waiting = {id(own.parameter) for own in bare.values() if own.used}
    own = [la for la in layers if all(id(p) in waiting for p in la.trained)]
    found += _tried(tried, own, [])
    taken = {name for group in found for name in group.names}
    taken |= _recurrent(task)
    left = [own for name, own in bare.items() if name not in taken]
    for form in range(_MOST_ONES + 2):
        shaped = [_formed(own, form) for own in left]
        some = [own for own in shaped if own is not None]
        good = _tried(tried, some, [la for g in found for la in g.layers])
        found += good
        taken = {name for group in good for name in group.names}
        left = [own for own in left if own.name not in taken]
    return found


def _recurrent(task: Task) -> set[str]:
    """Parameters of recurrent layers, whose kernels read memory without looking at its shape."""
    layers = (part for part in task.module.modules() if isinstance(part, nn.RNNBase))
    own = {id(p) for layer in layers for p in layer.parameters()}
    return {name for name, p in task.parameters.items() if id(p) in own}


def _formed(own: BareParameter, form: int) -> BareParameter | None:
    """The parameter expanded in the form of a number: first in place of a dimension of length 1."""
    ones = form - 1 if own.parameter.ndim and own.parameter.shape[0] == 1 else form
    if ones > _MOST_ONES:
        return None
    return BareParameter(own.name, own.parameter, own.columns, None if ones < 0 else ones)


def _tried(tried: Try, some: Sequence[AnyLayer], found: Sequence[AnyLayer]) -> list[Group]:
    """Those that agree, tried together, and if none does, by shape; with what was found before.

    Each may agree by itself where both together do not: a layer of an expanded parameter makes a
    tensor that is expanded already.
    """
    if not some:
        return []
    good, kinds = _beside(tried, some, found), list(_by_shape(some))
    if good or len(kinds) == 1:
        return good
    for kind in kinds[:_MOST_TRIES]:
        so_far = [*found, *(la for group in good for la in group.layers)]
        good += _beside(tried, kind, so_far)
    return good


def _beside(tried: Try, some: Sequence[AnyLayer], found: Sequence[AnyLayer]) -> list[Group]:
    """Groups of some that agree while those found before do."""
    places, good = {la.place for la in found}, tried([*found, *some])
    stays = places <= {group.place for group in good}
    return [group for group in good if group.place not in places] if stays else []


def _by_shape(some: Sequence[AnyLayer]) -> Iterator[list[AnyLayer]]:
    kinds: dict[object, list[AnyLayer]] = {}
    for one in some:
        kinds.setdefault(tuple(_shape(p) for p in one.trained), []).append(one)
    yield from kinds.values()


def _shape(parameter: Tensor) -> tuple[int, ...]:
    return tuple(parameter.shape)
