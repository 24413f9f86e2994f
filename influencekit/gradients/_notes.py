"""What a pass over gradients notes on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures

__all__ = ["Notes"]


class Notes:
    """By-products of a full pass if ``shares`` are given: the mean and squared norms."""

    def __init__(self, gradients: Any):
        self.known = gradients._known  # noqa: SLF001  notes that both keep
        self.shares = None if "mean" in self.known else gradients.shares
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
