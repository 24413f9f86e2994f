"""Which rows each stacked model sees at each step: exactly those that it would see alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from influencekit.training._stack import Stack

__all__ = ["Group", "SubsetSchedule", "batch_length", "steps_per_epoch", "training_loader"]


class Group(NamedTuple):
    """Models whose batches are of one length at a step.

    Attributes
    ----------
    models : Tensor of shape (m,) or None
        Positions in the stack; None for all of it, in order.
    rows : Tensor of shape (m, length)
        Each model's batch, as positions in the whole data.
    """

    models: Tensor | None
    rows: Tensor


class _Positions(Dataset):
    """A dataset that yields positions, so that a DataLoader yields its batches' positions."""

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> int:
        return position


def training_loader(net: NeuralNet, length: int) -> DataLoader:
    """Return the net's own training iterator over ``length`` positions instead of rows."""
    return net.get_iterator(_Positions(length), training=True)


def steps_per_epoch(net: NeuralNet, lengths: Sequence[int]) -> np.ndarray:
    """Number of batches (n,) of an epoch over subsets of the given lengths."""
    known = {length: len(training_loader(net, length)) for length in set(lengths)}
    return np.array([known[length] for length in lengths], dtype=np.int64)


def batch_length(net: NeuralNet, length: int) -> int:
    """Rows of the first batch of an epoch over ``length`` rows."""
    return min(length, training_loader(net, length).batch_sampler.batch_size)


class SubsetSchedule:
    """Epochs over one subset of the data for each model.

    All models must take the same number of steps in an epoch.

    Parameters
    ----------
    stack : Stack
        Its random streams are advanced as the net's own iterator would advance them.
    subsets : list of ndarray of int
        Rows of each model.
    """

    def __init__(self, stack: Stack, subsets: Sequence[np.ndarray]):
        self.stack = stack
        self.subsets = [torch.as_tensor(rows) for rows in subsets]
        net = stack.net
        self.loaders = {n: training_loader(net, n) for n in {len(rows) for rows in self.subsets}}

    def epoch(self) -> Iterator[list[Group]]:
        """Draw one epoch; yield the groups of each step."""
        batches = [self._batches(i) for i in range(self.stack.n_models)]
        for step in zip(*batches, strict=True):
            yield list(_grouped(step))

    def _batches(self, model: int) -> Sequence[Tensor]:
        """One model's batches of an epoch, in order."""
        rows = self.subsets[model]
        loader = self.loaders[len(rows)]
        with self.stack.streams[model].use():
            iter(loader)  # draws the workers' seed, as it does at the start of every epoch
            order = np.fromiter(loader.sampler, dtype=np.int64)
        batches = rows[torch.from_numpy(order)].split(loader.batch_sampler.batch_size)
        return batches[: len(loader)]  # without the last one where drop_last is set


def _grouped(batches: Sequence[Tensor]) -> Iterator[Group]:
    """Put the models' batches of one step together by length: no padding, no wrong row."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for model, batch in enumerate(batches):
        by_length[len(batch)].append(model)
    for models in by_length.values():
        rows = torch.stack([batches[m] for m in models])
        yield Group(None if len(by_length) == 1 else torch.tensor(models), rows)
