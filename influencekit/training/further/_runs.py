"""What each run leaves out, and the order in which it meets the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from influencekit.training._schedule import _Positions

__all__ = ["FULL", "KEPT", "Removals", "batches_of_runs", "epoch_orders"]

#: Column of the run that leaves nothing out.
FULL = -2
#: Owner of the rows that every run keeps.
KEPT = -1


@dataclass(frozen=True, eq=False)
class Removals:
    """Rows that are left out, each by one column.

    Parameters
    ----------
    owner : ndarray of shape (n_rows,), int64
        Column whose run leaves the row out; -1 where every run keeps it.
    n_columns : int

    Notes
    -----
    Run 0 is the full-data run, run 1 + c leaves out column c.
    """

    owner: np.ndarray
    n_columns: int

    @property
    def n_runs(self) -> int:
        """Columns and the full-data run."""
        return 1 + self.n_columns

    def sizes(self) -> np.ndarray:
        """Rows that each run leaves out, (n_runs,)."""
        counts = np.bincount(self.owner[self.owner >= 0], minlength=self.n_columns)
        return np.concatenate([[0], counts])

    def columns(self, runs: np.ndarray) -> np.ndarray:
        """Column of each run; ``FULL`` for the full-data run."""
        return np.where(runs == 0, FULL, runs - 1)

    def rows(self, runs: np.ndarray) -> np.ndarray:
        """Rows that runs of one size leave out, (len(runs), size), ascending."""
        return np.stack([np.flatnonzero(self.owner == c) for c in self.columns(runs)])

    def cohorts(self, removal: str) -> list[np.ndarray]:
        """Runs that take steps of the same lengths and so can share one optimiser.

        Paired runs keep every row in the batch.  The others are told apart by the number of
        rows that they leave out.
        """
        runs = np.arange(self.n_runs)
        if removal == "paired":
            return [runs]
        sizes = self.sizes()
        return [runs[sizes == size] for size in np.unique(sizes)]


def epoch_orders(n_rows: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Order of all rows in one epoch after the other, (n_rows,) int64.

    The order is that of ``DataLoader(rows, batch_size, shuffle=True,
    generator=torch.Generator().manual_seed(seed))``, iterated once an epoch.
    """
    generator = torch.Generator().manual_seed(int(seed))
    loader: DataLoader = DataLoader(
        _Positions(n_rows), batch_size=batch_size, shuffle=True, generator=generator
    )
    while True:
        iter(loader)  # draws the workers' seed, as it does at the start of every epoch
        yield torch.from_numpy(np.fromiter(loader.sampler, dtype=np.int64))


def batches_of_runs(
    orders: Iterator[Tensor], batch_size: int, owner: Tensor | None, columns: Tensor
) -> Iterator[Tensor]:
    """Yield the rows of one step after the other.

    Parameters
    ----------
    orders : iterator of Tensor of shape (n_rows,)
    batch_size : int
    owner : Tensor of shape (n_rows,) or None
        Given, the rows of a run's column are deleted from its order and the rest moves up.
    columns : Tensor of shape (n_runs,)
        Columns with equal numbers of rows.

    Yields
    ------
    Tensor of shape (batch,), or (n_runs, batch) where rows are deleted
    """
    for order in orders:
        if owner is not None:
            kept = owner[order] != columns[:, None]
            order = order.expand(len(columns), -1)[kept].reshape(len(columns), -1)
        yield from order.split(batch_size, dim=-1)
