"""What each run leaves out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["FULL", "KEPT", "Removals"]

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
