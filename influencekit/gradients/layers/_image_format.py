"""Images with their channels last in memory, where convolutions on a CPU are faster that way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

from torch import Tensor, channels_last, nn

from influencekit.models._task import Task
from influencekit.utils._torch import map_tensors

__all__ = ["as_taken", "with_fastest_images"]

T = TypeVar("T")

#: Pixels from which it is faster.
_PIXELS = 256
#: Tasks whose images are given so.
_LAST: WeakSet[Task] = WeakSet()


def as_taken(task: Task, inputs: Any) -> Any:
    """Inputs with images in the format that the task's module takes fastest; values are equal."""
    return map_tensors(_channels_last, inputs) if task in _LAST else inputs


def with_fastest_images(task: Task, inputs: Any, work: Callable[[], T]) -> T:
    """What ``work`` gives, with images in the faster format for this and all later passes.

    A module that does not take that format, as it views its tensors in memory, gets images as they
    are.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensor
        Of some examples; their sizes and the layers choose the format.
    work : callable
        It fails where the module does.
    """
    _LAST.discard(task)
    if _is_faster(task, inputs):
        _LAST.add(task)
        try:
            return work()
        except Exception:  # whatever a model raises; raised again below, if not for the format
            _LAST.discard(task)
    return work()


def _is_faster(task: Task, inputs: Any) -> bool:
    """Whether there are several convolutions, on a CPU, of images that are large enough."""
    if task.device.type != "cpu":
        return False
    sizes: list[int] = []

    def look(t: Tensor) -> Tensor:
        if _is_image(t):
            sizes.append(t[0, 0].numel())
        return t

    map_tensors(look, inputs)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in task.module.modules())
    return convolutions > 1 and max(sizes, default=0) >= _PIXELS


def _is_image(t: Tensor) -> bool:
    return t.ndim == 4 and t.is_floating_point() and t.numel() > 0


def _channels_last(t: Tensor) -> Tensor:
    if not _is_image(t):
        return t
    if t.shape[1] > 1:
        return t.contiguous(memory_format=channels_last)
    t = t.contiguous()  # one channel lies last too: only its stride tells torch so
    return t.as_strided(t.shape, (t.stride(0), 1, *t.stride()[2:]))
