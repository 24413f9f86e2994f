"""Training rows that are read from slices when a page shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.data.slices._row_slices import RowSlices, Survey, read_once, taken

__all__ = ["SliceTable", "shown_rows"]


class SliceTable:
    """A table of which rows can be taken by position, as from a DataFrame.

    Parameters
    ----------
    found : Survey
    """

    def __init__(self, found: Survey):
        self.found = found
        self._last: tuple[bytes, Any] = (b"", None)
        first = self.iloc[np.zeros(1, dtype=np.int64)]
        if not hasattr(first, "shape") or hasattr(first, "tocsr"):
            raise TypeError(
                f"X_train: got slices of a {type(first).__name__}, which a page cannot show. Give "
                f"something readable as examples=(train, test)."
            )
        self.shape = (int(found.starts[-1]), *first.shape[1:])
        self.ndim = len(self.shape)
        if hasattr(first, "columns"):
            self.columns = first.columns

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def iloc(self) -> SliceTable:
        """Itself: rows are taken by position."""
        return self

    def __getitem__(self, rows: Any) -> Any:
        positions = np.atleast_1d(np.asarray(rows))
        key, known = positions.tobytes(), self._last
        if known[0] != key:
            self._last = known = (key, taken(self.found.rows, positions)[0])
        return known[1] if np.ndim(rows) else known[1][:1].squeeze()


def shown_rows(X: Any, y: Any) -> tuple[Any, Any]:
    """Training rows that can be taken by position, and all their labels."""
    if not isinstance(X, RowSlices):
        return X, y
    found = read_once(X, "X_train")
    return SliceTable(found), found.y if y is None else y
