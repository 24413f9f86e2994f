"""Finished work on disk: written whole or not at all, found again by what it is made of."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np

from influencekit.exceptions import InfluenceKitWarning

__all__ = ["OutputCache"]

_UNFINISHED = "unfinished-"
_STALE_SECONDS = 3600  # longer than any write takes


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
        for path in self.folder.glob(f"{_UNFINISHED}*"):  # left behind by a kill
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)

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
        """Write a chunk: to a file of its own first, which then takes the name at once."""
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=_UNFINISHED, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, outputs=outputs, key=np.array(chunk_key))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.folder / f"{chunk_key}.npz")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _damaged(self, path: Path, why: str) -> None:
        warnings.warn(
            f"cache_dir: {path.name} cannot be used ({why}); {self.what}.",
            InfluenceKitWarning,
            stacklevel=2,
        )
