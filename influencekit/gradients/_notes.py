"""What a pass over gradients notes on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._store import smaller

__all__ = ["Notes"]


class Notes:
    """By-products of a full pass if ``shares`` are given: the mean and squared norms."""

    def __init__(self, gradients: Any):
        self.known = gradients._known  # noqa: SLF001  notes that both keep
        self.shares = None if "mean" in self.known else gradients.shares
        self.norms: list[Tensor] = []
        self.mean: Any = 0.0

    def of(self, rows: slice, features: GradientFeatures) -> tuple[Tensor, Tensor] | None:
        """What is noted of one batch: its weighted sum and squared norms."""
        if self.shares is None:
            return None
        share = self.shares[None, rows].to(features.dtype)
        # norms take rows that are smaller than their factors, and so does the sum then
        features = features.with_blocks({k: smaller(b) for k, b in features.blocks.items()})
        return features.weighted_sums(share)[0].to(torch.float64), features.squared_norms()

    def add(self, noted: tuple[Tensor, Tensor] | None) -> None:
        """Add what was noted of the next batch."""
        if noted is not None:
            self.mean = self.mean + noted[0]
            self.norms.append(noted[1])

    def close(self) -> None:
        """Keep the notes of all batches."""
        if self.shares is not None:
            norms = torch.cat(self.norms)
            self.known.update({"mean": self.mean, norms.dtype: norms})
