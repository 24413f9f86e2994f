"""What a pass over gradients tells besides what it was made for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures

__all__ = ["Notes"]


class Notes:
    """What a whole pass tells besides, if ``shares`` are given: the mean and squared norms."""

    def __init__(self, shares: Tensor | None, known: dict[Any, Tensor]):
        self.shares = shares
        self.known = known
        self.norms: list[Tensor] = []
        self.mean: Any = 0.0

    def add(self, rows: slice, features: GradientFeatures) -> None:
        if self.shares is not None:
            share = self.shares[None, rows].to(features.dtype)
            self.mean = self.mean + features.weighted_sums(share)[0].to(torch.float64)
            self.norms.append(features.squared_norms())

    def close(self) -> None:
        if self.shares is not None:
            norms = torch.cat(self.norms)
            self.known.update({"mean": self.mean, norms.dtype: norms})
