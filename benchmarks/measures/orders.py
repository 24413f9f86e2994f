"""The order in which a shuffling DataLoader visits rows."""

from __future__ import annotations

import torch
from torch.utils.data import Sampler


class OrderWithout(Sampler):
    """The order of a shuffling DataLoader, epoch by epoch, with one row deleted."""

    def __init__(self, n: int, seed: int, row: int | None):
        self.n, self.row = n, row
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n - (self.row is not None)

    def __iter__(self):
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        order = torch.randperm(self.n, generator=self.generator).tolist()
        torch.randperm(self.n, generator=self.generator)
        return (i for i in order if i != self.row)
