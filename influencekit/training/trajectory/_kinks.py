"""A second derivative for ReLU: the density of rows at its kink in place of none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["SoftKinks"]

_RELU = {functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_LEAKY = {functional.leaky_relu}


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
