"""Folders of ``.npy`` files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from influencekit.data.slices._row_slices import RowSlices

__all__ = ["NpySlices"]


class NpySlices(RowSlices):
    """A slice for each pair of files, mapped and not read.

    Parameters
    ----------
    folder : Path
        With ``X*.npy`` and, where there are targets, as many ``y*.npy``.
    target, columns : None
        Accepted by tables only.
    """

    def __init__(self, folder: Path, target: Any, columns: Any):
        for name, value in (("target", target), ("columns", columns)):
            if value is not None:
                raise ValueError(
                    f"{name}: got {value!r}, but .npy files have no columns with names; leave it "
                    f"out. Targets are in files y*.npy."
                )
        self.inputs = sorted(folder.glob("X*.npy"))
        self.targets = sorted(folder.glob("y*.npy"))
        if not self.inputs or len(self.targets) not in (0, len(self.inputs)):
            raise ValueError(
                f"data: {str(folder)!r} has {len(self.inputs)} files X*.npy and "
                f"{len(self.targets)} files y*.npy; accepted are as many of both, or no y*.npy."
            )

    def slices(self, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the slice with number ``start``, and each one after it."""
        for number in range(start, len(self.inputs)):
            y = _mapped(self.targets[number]) if self.targets else None
            yield _mapped(self.inputs[number]), y


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"data: {str(path)!r} cannot be read as an array: {error}") from error
