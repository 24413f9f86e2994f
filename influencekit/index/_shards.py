"""Rows of coordinates in files: written whole, mapped when they are read, in few bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.index.files._folder import map_array, write_array
from influencekit.utils._archives import DamagedFile

__all__ = ["DTYPES", "Shard", "dequantized", "open_shard", "quantized", "write_shard"]

#: What an entry of a row may be stored as.
DTYPES = ("float32", "float16", "int8")
#: Largest stored integer.
_STEPS = 127


@dataclass
class Shard:
    """Some rows of an index, mapped from two files.

    Attributes
    ----------
    coordinates : Tensor of shape (n, dim)
        Rows with a largest entry of 1 (127 for "int8").
    scales : Tensor of shape (n,), float64
        What each row is multiplied by.
    selves : Tensor of shape (n,), float64
        Self-influence at the damping of the build; NaN if it is not known.
    ratios : Tensor of shape (n, n_blocks), float64
        Factors of the squares of each block in self-influence.
    """

    coordinates: Tensor
    scales: Tensor
    selves: Tensor
    ratios: Tensor

    def __len__(self) -> int:
        return len(self.coordinates)


def quantized(rows: Tensor, dtype: str) -> tuple[Tensor, Tensor]:
    """Rows in few bits, and the scale of each.

    Parameters
    ----------
    rows : Tensor of shape (n, dim), float64
    dtype : {"float32", "float16", "int8"}

    Returns
    -------
    coordinates : Tensor of shape (n, dim)
    scales : Tensor of shape (n,), float64

    Examples
    --------
    >>> import torch
    >>> quantized(torch.tensor([[0.5, -2.0, 0.0]], dtype=torch.float64), "int8")
    (tensor([[  32, -127,    0]], dtype=torch.int8), tensor([0.0157], dtype=torch.float64))
    """
    largest = rows.abs().amax(1)
    steps = _STEPS if dtype == "int8" else 1
    scales = largest / steps
    unit = rows / torch.where(scales > 0, scales, 1.0)[:, None]
    unit = unit.round() if dtype == "int8" else unit
    return unit.to(getattr(torch, dtype)), scales


def dequantized(coordinates: Tensor, scales: Tensor) -> Tensor:
    """The rows that :func:`quantized` stores, float64."""
    return coordinates.double() * scales[:, None]


def write_shard(
    folder: Path, name: str, rows: Tensor, selves: Tensor, ratios: Tensor, dtype: str
) -> dict[str, Any]:
    """Write some rows, and say what a reader has to find.

    The file of coordinates is the last: a shard that has it is whole.
    """
    coordinates, scales = quantized(rows, dtype)
    columns = torch.cat([scales[:, None], selves[:, None], ratios], dim=1)
    factors = write_array(folder / f"factors-{name}.npy", columns.numpy())
    own = write_array(folder / f"coordinates-{name}.npy", coordinates.numpy())
    return {"coordinates": own, "factors": factors}


def described(name: str, n: int, dim: int, n_blocks: int, dtype: str) -> dict[str, Any]:
    """What :func:`write_shard` says of a shard."""
    own, factors = np.dtype(dtype).str, np.dtype("f8").str
    return {
        "coordinates": {"file": f"coordinates-{name}.npy", "dtype": own, "shape": [n, dim]},
        "factors": {"file": f"factors-{name}.npy", "dtype": factors, "shape": [n, 2 + n_blocks]},
    }


def open_shard(folder: Path, entry: Any, dim: int, n_blocks: int, dtype: str) -> Shard:
    """Map a shard.

    Raises
    ------
    DamagedFile
        If its files are not what the manifest says, or do not fit together.
    """
    if not isinstance(entry, dict):
        raise DamagedFile("the manifest of the index does not describe its shards")
    coordinates = map_array(folder, entry.get("coordinates"))
    factors = map_array(folder, entry.get("factors"))
    n = len(coordinates)
    fits = coordinates.shape == (n, dim) and factors.shape == (n, 2 + n_blocks)
    if not fits or coordinates.dtype != np.dtype(dtype) or factors.dtype != np.float64:
        raise DamagedFile(
            f"the shard {entry['coordinates']['file']} is damaged: {coordinates.dtype} of shape "
            f"{coordinates.shape} with factors of shape {factors.shape}; the index has rows of "
            f"{dim} {dtype}"
        )
    columns = torch.from_numpy(np.asarray(factors))
    rows = torch.from_numpy(np.asarray(coordinates))
    return Shard(rows, columns[:, 0], columns[:, 1], columns[:, 2:])
