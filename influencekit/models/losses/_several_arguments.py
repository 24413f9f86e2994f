"""Criteria of several outputs: what is passed to each of their arguments."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["PLACES", "SeveralArguments"]

#: For each criterion, which output each of its arguments is; None is the target.
PLACES: dict[type[nn.Module], tuple[int | None, ...]] = {
    nn.GaussianNLLLoss: (0, None, 1),
    nn.CosineEmbeddingLoss: (0, 1, None),
    nn.MarginRankingLoss: (0, 1, None),
    nn.TripletMarginLoss: (0, 1, 2),
    nn.TripletMarginWithDistanceLoss: (0, 1, 2),
}


class SeveralArguments:
    """A criterion as a function of a tuple of outputs and the target.

    Parameters
    ----------
    criterion : torch.nn.Module
        One of ``PLACES``.
    """

    def __init__(self, criterion: nn.Module):
        self.criterion = criterion

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        places = PLACES[type(self.criterion)]
        needed = sum(place is not None for place in places)
        if not isinstance(outputs, (tuple, list)) or len(outputs) < needed:
            got = f"{len(outputs)} in a" if isinstance(outputs, (tuple, list)) else "a"
            raise ValueError(
                f"loss: {type(self.criterion).__name__} takes {needed} outputs, but the model "
                f"returned {got} {type(outputs).__name__}; accepted is a tuple of them. Wrap the "
                "model in a module that returns it, or give the loss as a function: "
                "loss=lambda output, y: ..."
            )
        return self.criterion(*(targets if p is None else outputs[p] for p in places))
