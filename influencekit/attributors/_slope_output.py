"""An output whose gradient by the model's outputs is given."""

from __future__ import annotations

from torch import Tensor

__all__ = ["SlopeOutput"]


class SlopeOutput:
    """Output whose gradient is given: the outputs times their slopes, which stand as targets."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).flatten(1).sum(1)
