"""Finished work on disk: written whole or not at all, found again by what it is made of."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.utils import remove_abandoned, whole_file

__all__ = ["OutputCache"]


class OutputCache:
    """Float64 tables, such as outputs of retrained models: a file a chunk.

    Parameters
    ----------
    directory : path-like
        Made if absent.  Several processes may share it.
    key : str
        Fingerprint of everything but the chunk: data, model, output, engine.
    what : str
        What a chunk is, for the warning about a damaged one.
    """

    def __init__(
        self, directory: str | os.PathLike, key: str, what: str = "these models are trained again"
    ):
        self.what = what
        self.folder = Path(directory) / key
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)

    def load(self, chunk_key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """Outputs of a chunk; None if they are not there, or are damaged."""
        path = self.folder / f"{chunk_key}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                outputs, key = stored["outputs"], str(stored["key"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            self._damaged(path, str(error))
            return None
        if key != chunk_key or outputs.shape != shape or outputs.dtype != np.float64:
            self._damaged(path, "its content is not what its name says")
            return None
        return outputs

    def store(self, chunk_key: str, outputs: np.ndarray) -> None:
        """Write a chunk, whole or not at all."""
        with whole_file(self.folder / f"{chunk_key}.npz") as file:
            np.savez(file, outputs=outputs, key=np.array(chunk_key))

    def _damaged(self, path: Path, why: str) -> None:
        warn_user(
            f"cache_dir: {path.name} cannot be used ({why}); {self.what}.", InfluenceKitWarning
        )
