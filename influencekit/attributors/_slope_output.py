"""Outputs of attributors' own making, which take the model's outputs as one tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["NaturalOutput", "SlopeOutput"]


class SlopeOutput:
    """Output with a given gradient: outputs times slopes, which are passed as targets."""

    #: Several outputs stand side by side in one tensor, as the slopes do.
    packed = True

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).flatten(1).sum(1)


class NaturalOutput:
    """A function that ``resolve_output`` has made of a user's choice.

    Parameters
    ----------
    function : callable
    """

    packed = True

    def __init__(self, function: Callable[[Tensor, Any], Tensor]):
        self.function = function

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        return self.function(outputs, targets)
