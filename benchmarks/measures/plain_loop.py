"""Further training without single rows, as one writes it in plain torch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler


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


def loop(module, data, queries, seed, rows, optimizer, lr, epochs, batch_size):
    """Minus the test losses (n_runs, n_epochs, n_test) of one run after the other."""
    outputs = []
    for left_out in rows:
        model = copy.deepcopy(module).train()
        steps = getattr(torch.optim, optimizer)(model.parameters(), lr=lr)
        order = OrderWithout(len(data), seed, left_out)
        losses = []
        for _ in range(epochs):
            for X, y in DataLoader(data, batch_size=batch_size, sampler=order):
                steps.zero_grad()
                nn.functional.mse_loss(model(X), y).backward()
                steps.step()
            with torch.no_grad():
                losses.append((model(queries[0]) - queries[1]).square()[:, 0].double().numpy())
        outputs.append(losses)
    return -np.array(outputs)
