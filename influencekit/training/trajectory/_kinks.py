"""Kinks of a net: which there are, and a second derivative for those of ReLU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from influencekit.training.trajectory._replay import Replay, random_state

__all__ = ["SMOOTHING", "SoftKinks", "Watch", "kinks_of"]

_RELU = {functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_LEAKY = {functional.leaky_relu}
#: Names of functions with kinks that :class:`SoftKinks` leaves as they are.
_OTHERS = {"relu6", "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "prelu",
           "rrelu", "threshold"}  # fmt: skip
#: Kinked only where a batch has rows on both sides; elsewhere, as the ε of a norm, they do nothing.
_BOUNDS = {"clamp", "clamp_min", "clamp_max", "clip"}
#: Width of "smoothed_hessian" at ReLU's kinks, in standard deviations of a unit over the batch.
SMOOTHING = 0.1


class SoftKinks(TorchFunctionMode):
    """Inside the block, ReLU and leaky ReLU have a second derivative near 0.

    Values and first derivatives stay as they are.  The second derivative is ``J N(z; 0, h²)``
    with the jump J of the slope and a width h of some standard deviations of the inputs z over
    the batch: a kernel estimate of how many rows switch when z moves.

    Parameters
    ----------
    width : float
        In standard deviations of each unit's inputs over the batch.
    """

    def __init__(self, width: float):
        super().__init__()
        self.width = width

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _RELU | _LEAKY:
            return func(*args, **kwargs)
        inputs = args[0] if args else kwargs["input"]
        if func in _RELU:
            return torch.relu(inputs) + self._bend(inputs)
        slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)
        return functional.leaky_relu(inputs, slope) + (1 - slope) * self._bend(inputs)

    def _bend(self, z: Tensor) -> Tensor:
        """Zero, with derivative zero, and the kernel as second derivative."""
        still = z.detach()
        spread = still.std(0, keepdim=True, correction=0)
        width = self.width * torch.where(spread > 0, spread, 1.0)
        kernel = torch.exp(-0.5 * (still / width) ** 2) / (math.sqrt(2 * math.pi) * width)
        return 0.5 * torch.where(spread > 0, kernel, 0.0) * (z - still) ** 2


class Watch(TorchFunctionMode):
    """Inside the block, notes the functions with kinks that are called.

    Attributes
    ----------
    soft, hard : set of str
        Those that :class:`SoftKinks` knows, and the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.soft: set[str] = set()
        self.hard: set[str] = set()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").rstrip("_")
        if func in _RELU | _LEAKY:
            self.soft.add(name)
        elif name in _OTHERS or "max_pool" in name or (name in _BOUNDS and _cuts(found, args)):
            self.hard.add(name)
        return found


def _cuts(found: Tensor, args: tuple) -> bool:
    """Whether a bound holds for some of the inputs and not for others."""
    if not args or not args[0].is_floating_point():
        return False
    same = found.detach() == args[0].detach()
    return bool(same.any()) and not bool(same.all())


def kinks_of(replay: Replay) -> tuple[set[str], set[str]]:
    """Functions with kinks that a net calls on the first batch of its run.

    Parameters
    ----------
    replay : Replay

    Returns
    -------
    soft : set of str
        ReLU and leaky ReLU, whose switching :class:`SoftKinks` estimates.
    hard : set of str
        Others: bounded activations, max pooling, clamped values.
    """
    batch, theta = replay.batch(0), replay.snapshot(replay.n_steps).theta
    with torch.no_grad(), random_state(batch.random_state), Watch() as watch:
        replay.model.outputs(theta, batch.inputs, training=True)
    return watch.soft, watch.hard
