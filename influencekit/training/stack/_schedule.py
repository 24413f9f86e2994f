"""The rows of each stacked model at each step: exactly those that it would see alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from influencekit.training._randomness import RandomStream

__all__ = [
    "Group",
    "SubsetSchedule",
    "batch_length",
    "batches_of_runs",
    "epoch_orders",
    "steps_per_epoch",
]


class Group(NamedTuple):
    """Models whose batches have the same length at a step.

    Attributes
    ----------
    models : Tensor of shape (m,) or None
        Positions in the stack; None for all models in order.
    rows : Tensor of shape (m, length)
        Each model's batch, as positions in the whole data.
    """

    models: Tensor | None
    rows: Tensor


def _positions(length: int) -> Dataset:
    """Data for samplers of loaders, which only need its length."""
    return TensorDataset(torch.empty(length))


def training_loader(net: NeuralNet, length: int) -> DataLoader:
    """Return the net's own training iterator over ``length`` positions instead of rows."""
    return net.get_iterator(_positions(length), training=True)


def steps_per_epoch(net: NeuralNet, lengths: Sequence[int]) -> np.ndarray:
    """Number of batches (n,) of an epoch over subsets of the given lengths."""
    known = {length: len(training_loader(net, length)) for length in set(lengths)}
    return np.array([known[length] for length in lengths], dtype=np.int64)


def batch_length(net: NeuralNet, length: int) -> int:
    """Rows of the first batch of an epoch over ``length`` rows."""
    return min(length, _batch_size(training_loader(net, length)))


def _batch_size(loader: DataLoader) -> int:
    sampler: Any = loader.batch_sampler  # torch types it as any iterable of batches
    return sampler.batch_size


def epoch_order(loader: DataLoader) -> Tensor:
    """Order of an epoch's rows, (n,) int64; draws the same random numbers as an epoch."""
    iter(loader)  # draws the workers' seed, as at the start of every epoch
    return torch.from_numpy(np.fromiter(loader.sampler, dtype=np.int64))


class SubsetSchedule:
    """Epochs over one subset of the data for each model.

    All models must take the same number of steps in an epoch.

    Parameters
    ----------
    net : NeuralNet
    streams : sequence of RandomStream
        One for each model; advanced as the net's own iterator would advance them.
    subsets : list of ndarray of int
        Rows of each model.
    """

    def __init__(
        self, net: NeuralNet, streams: Sequence[RandomStream], subsets: Sequence[np.ndarray]
    ):
        self.streams = streams
        self.subsets = [torch.as_tensor(rows) for rows in subsets]
        self.loaders = {n: training_loader(net, n) for n in {len(rows) for rows in self.subsets}}

    def epoch(self) -> Iterator[list[Group]]:
        """Draw one epoch; yield the groups of each step."""
        batches = [self._batches(i) for i in range(len(self.streams))]
        for step in zip(*batches, strict=True):
            yield list(_grouped(step))

    def _batches(self, model: int) -> Sequence[Tensor]:
        """One model's batches of an epoch, in order."""
        rows = self.subsets[model]
        loader = self.loaders[len(rows)]
        with self.streams[model].use():
            order = epoch_order(loader)
        batches = rows[order].split(_batch_size(loader))
        return batches[: len(loader)]  # without the last one if drop_last is set


def _grouped(batches: Sequence[Tensor]) -> Iterator[Group]:
    """Group the models' batches of one step by length, so padding is not needed."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for model, batch in enumerate(batches):
        by_length[len(batch)].append(model)
    for models in by_length.values():
        rows = torch.stack([batches[m] for m in models])
        yield Group(None if len(by_length) == 1 else torch.tensor(models), rows)


def epoch_orders(n_rows: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Order of all rows in each epoch, (n_rows,) int64.

    The order is that of ``DataLoader(rows, batch_size, shuffle=True,
    generator=torch.Generator().manual_seed(seed))``, iterated once per epoch.
    """
    generator = torch.Generator().manual_seed(int(seed))
    loader: DataLoader = DataLoader(
        _positions(n_rows), batch_size=batch_size, shuffle=True, generator=generator
    )
    while True:
        yield epoch_order(loader)


def batches_of_runs(
    orders: Iterator[Tensor], batch_size: int, removal_of_row: Tensor | None, columns: Tensor
) -> Iterator[Tensor]:
    """Yield the rows of each step.

    Parameters
    ----------
    orders : iterator of Tensor of shape (n_rows,)
    batch_size : int
    removal_of_row : Tensor of shape (n_rows,) or None
        If given, the rows of a run's column are deleted from its order, and the rest moves up.
    columns : Tensor of shape (n_runs,)
        Columns with equal numbers of rows.

    Yields
    ------
    Tensor of shape (batch,), or (n_runs, batch) where rows are deleted
    """
    for order in orders:
        if removal_of_row is not None:
            kept = removal_of_row[order] != columns[:, None]
            order = order.expand(len(columns), -1)[kept].reshape(len(columns), -1)
        yield from order.split(batch_size, dim=-1)
