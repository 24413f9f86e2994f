"""Finished work on disk: written completely or not at all, and found again by its inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from influencekit.exceptions import InfluenceKitWarning, ResourceError, warn_user
from influencekit.utils._archives import read_arrays
from influencekit.utils._files import (
    check_writable,
    remove_abandoned,
    remove_once,
    whole_file,
    writing,
)

__all__ = ["OutputCache"]

#: Bytes that the names and shapes of a small archive may take.
_SMALL = 2**16


class OutputCache:
    """Float64 tables, such as outputs of retrained models, with one file for each chunk.

    Parameters
    ----------
    directory : path-like
        Created if missing. Several processes may share it.  It is tried before any work begins.
    key : str
        Fingerprint of everything except the chunk: data, model, output, engine.
    what : str
        Consequence of a damaged chunk, for the warning.
    n_bytes : int, default=0
        Bytes that will be stored, as far as they are known.

    Raises
    ------
    OSError
        If the folder cannot be written, or the disk is full.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        key: str,
        what: str = "these models are trained again",
        n_bytes: int = 0,
    ):
        self.what = what
        self.folder = Path(directory) / key
        check_writable(directory, "cache_dir", n_bytes)
        for inner in Path(directory).iterdir():  # those of other keys, too
            if inner.is_dir() and inner != self.folder:
                remove_once(str(inner.resolve()))
        remove_abandoned(self.folder)

    def load(self, chunk_key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """Outputs of a chunk; None if they are missing or damaged."""
        found = self.load_all(chunk_key, shape, 8 * int(np.prod(shape)) + _SMALL)
        return None if found is None else found[0]

    def load_all(
        self, chunk_key: str, shape: tuple[int, int], at_most: int | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
        """Outputs of a chunk, and the arrays stored with them; None if missing or damaged."""
        path = self.folder / f"{chunk_key}.npz"
        try:
            stored = read_arrays(path, at_most)
            outputs, key = stored.pop("outputs"), str(stored.pop("key"))
            if key != chunk_key or outputs.shape != shape or outputs.dtype != np.float64:
                raise ValueError(f"the content of {path} does not match its name")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, ResourceError) as error:
            warn_user(f"cache_dir: {error}; {self.what}.", InfluenceKitWarning)
            return None
        return outputs, stored

    def store(
        self, chunk_key: str, outputs: np.ndarray, more: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Write a chunk completely or not at all, with further arrays."""
        arrays: dict[str, Any] = {**(more or {}), "outputs": outputs, "key": np.array(chunk_key)}
        with writing(self.folder, "cache_dir"):
            self.folder.mkdir(parents=True, exist_ok=True)  # only now: an empty one says nothing
            with whole_file(self.folder / f"{chunk_key}.npz") as file:
                np.savez(file, **arrays)
