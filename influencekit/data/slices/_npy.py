"""Folders of ``.npy`` files."""

from __future__ import annotations

import re
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
        With ``X*.npy`` and, where there are targets, a ``y*.npy`` for each: the name goes on alike.
        Numbers in names count as numbers: ``X-2.npy`` comes before ``X-10.npy``.
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
        self.inputs = sorted(folder.glob("X*.npy"), key=_by_number)
        self.targets = sorted(folder.glob("y*.npy"), key=_by_number)
        if not self.inputs or len(self.targets) not in (0, len(self.inputs)):
            raise ValueError(
                f"data: {str(folder)!r} has {len(self.inputs)} files X*.npy and "
                f"{len(self.targets)} files y*.npy; accepted are as many of both, or no y*.npy."
            )
        for one, other in zip(self.inputs, self.targets, strict=False):
            if one.name[1:] != other.name[1:]:
                raise ValueError(
                    f"data: {str(folder)!r} has {one.name!r} without y{one.name[1:]!s}, or "
                    f"{other.name!r} without X{other.name[1:]!s}; accepted are pairs whose names "
                    f"differ in the first letter only."
                )

    def slices(self, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the slice with number ``start``, and each one after it."""
        for number in range(start, len(self.inputs)):
            y = _mapped(self.targets[number]) if self.targets else None
            yield _mapped(self.inputs[number]), y


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    """The name with its numbers as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def _mapped(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"data: {str(path)!r} cannot be read as an array: {error}. Accepted are files that "
            f"numpy.save wrote, of numbers or texts; write it again."
        ) from error
    if not found.ndim:
        raise ValueError(f"data: {str(path)!r} holds one value; accepted are arrays of rows.")
    return found
