"""Memory-mapped data in pickles: the path of their file, not their values."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["MappedDataMixin", "by_path", "from_path"]

#: Folders of joblib whose files are deleted when its workers end.
_PASSING = "joblib_memmapping_folder"


@dataclass(frozen=True)
class MappedFile:
    """A whole memory-mapped array, by its file.

    Attributes
    ----------
    path, dtype : str
    shape : tuple of int
    offset : int
    order : {"C", "F"}
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    order: str

    def open(self) -> np.memmap:
        """Map the file again, for reading."""
        if not os.path.isfile(self.path):
            raise FileNotFoundError(
                f"X: the pickle refers to the memory-mapped file {self.path!r}, which is not "
                f"there. Put it back, or fit again on data where they are now."
            )
        order: Any = self.order
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)


def by_path(tree: Any) -> Any:
    """Data with memory-mapped arrays as files; parts of such arrays and all else stay.

    Parameters
    ----------
    tree : Any
        An array, or a tuple or dict of them, or anything else.
    """
    return _mapped(tree, _to_file)


def from_path(tree: Any) -> Any:
    """What :func:`by_path` was given, with the files mapped again."""
    return _mapped(tree, lambda leaf: leaf.open() if isinstance(leaf, MappedFile) else leaf)


def _mapped(tree: Any, function: Any) -> Any:
    if type(tree) is tuple:
        return tuple(_mapped(one, function) for one in tree)
    if isinstance(tree, Mapping) and type(tree) is dict:
        return {key: _mapped(one, function) for key, one in tree.items()}
    return function(tree)


def _to_file(leaf: Any) -> Any:
    whole = isinstance(leaf, np.memmap) and isinstance(leaf.base, mmap.mmap)
    if not whole or leaf.filename is None or leaf.mode == "c" or _PASSING in str(leaf.filename):
        return leaf
    order = "C" if leaf.flags.c_contiguous else "F"
    path = os.path.abspath(leaf.filename)
    return MappedFile(path, leaf.dtype.str, leaf.shape, leaf.offset, order)


class MappedDataMixin:
    """An attributor whose training data stay in their files when it is pickled."""

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {**state, "_given": by_path(state["_given"])} if "_given" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_given" in state:
            state = {**state, "_given": from_path(state["_given"])}
        super().__setstate__(state)  # type: ignore[misc]
