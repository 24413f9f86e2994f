"""Parameters and optimiser state at some steps of a run, in memory or in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.utils import whole_file

__all__ = ["FolderSnapshots", "Snapshot"]

THETA = "theta"


@dataclass(frozen=True)
class Snapshot:
    """State of a run before one of its steps.

    Parameters
    ----------
    tensors : dict of str to dict of parameter name to Tensor
        "theta" are the parameters; the others are the optimiser's state under torch's names.
    count : int
        Steps that the optimiser has taken.
    """

    tensors: dict[str, dict[str, Tensor]]
    count: int

    def write(self, path: Path) -> None:
        """Write as a numpy archive: whole or not at all."""
        arrays: dict[str, Any] = {
            f"{slot}/{name}": _numpy(tensor, name)
            for slot, named in self.tensors.items()
            for name, tensor in named.items()
        }
        with whole_file(path) as file:
            np.savez(file, **arrays, count=np.array(self.count))

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """Read what ``write`` wrote; nothing in the file is ever run."""
        tensors: dict[str, dict[str, Tensor]] = {}
        with np.load(path, allow_pickle=False) as stored:
            for key in stored.files:
                if key != "count":
                    slot, name = key.split("/", 1)
                    tensors.setdefault(slot, {})[name] = torch.from_numpy(stored[key])
            return cls(tensors, int(stored["count"]))


class FolderSnapshots(Mapping):
    """Snapshots by step, each a file of a folder, read when asked for.

    Parameters
    ----------
    folder : path-like
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def add(self, step: int, snapshot: Snapshot) -> None:
        """Write a snapshot."""
        self.folder.mkdir(parents=True, exist_ok=True)
        snapshot.write(self._path(step))

    def __getitem__(self, step: int) -> Snapshot:
        try:
            return Snapshot.read(self._path(step))
        except FileNotFoundError:
            raise KeyError(step) from None

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(int(p.stem.split("_")[1]) for p in self.folder.glob("step_*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}.npz"


def _numpy(tensor: Tensor, name: str) -> np.ndarray:
    if tensor.dtype not in (torch.float32, torch.float64, torch.float16):
        raise ValueError(
            f"folder: parameter {name!r} has dtype {tensor.dtype}, which numpy's files do not "
            "hold; accepted are float16, float32 and float64. Record to memory (folder=None)."
        )
    return tensor.cpu().numpy()
