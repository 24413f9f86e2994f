"""Finished work on disk: written completely or not at all, and found again by its inputs."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.utils._files import remove_abandoned, whole_file

__all__ = ["OutputCache"]


class OutputCache:
    """Float64 tables, such as outputs of retrained models, with one file for each chunk.

    Parameters
    ----------
    directory : path-like
        Created if missing. Several processes may share it.
    key : str
        Fingerprint of everything except the chunk: data, model, output, engine.
    what : str
        Consequence of a damaged chunk, for the warning.
    """

    def __init__(
        self, directory: str | os.PathLike, key: str, what: str = "these models are trained again"
    ):
        self.what = what
        self.folder = Path(directory) / key
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)

    def load(self, chunk_key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """Outputs of a chunk; None if they are missing or damaged."""
        path = self.folder / f"{chunk_key}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                outputs, key = stored["outputs"], str(stored["key"])
            if key != chunk_key or outputs.shape != shape or outputs.dtype != np.float64:
                raise ValueError("its content does not match its name")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            text = f"cache_dir: {path.name} cannot be used ({error}); {self.what}."
            warn_user(text, InfluenceKitWarning)
            return None
        return outputs

    def store(self, chunk_key: str, outputs: np.ndarray) -> None:
        """Write a chunk completely or not at all."""
        with whole_file(self.folder / f"{chunk_key}.npz") as file:
            np.savez(file, outputs=outputs, key=np.array(chunk_key))
