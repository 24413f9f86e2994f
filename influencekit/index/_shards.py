"""Rows of coordinates in files: written whole, mapped when they are read, in few bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.index.files._folder import checksum, map_array, write_array
from influencekit.utils._archives import DamagedFile

__all__ = [
    "DTYPES",
    "Shard",
    "dequantized",
    "described",
    "is_whole",
    "noted",
    "open_shard",
    "quantized",
    "summed",
    "write_shard",
]

#: What an entry of a row may be stored as.
DTYPES = ("float32", "float16", "int8")
#: Largest stored integer.
_STEPS = 127
#: Files of a shard, whose checksums are kept in this order.
PARTS = ("coordinates", "factors")
#: Bytes of the largest file that is compared with its checksum: of all, or of none.
ALL, NONE = 2**63, 0
_REPAIR = (
    "fit(model, X, y) on this folder, with the data and settings of its build, writes damaged "
    "shards again. An index that was changed since (add_rows, remove_rows, refresh) has to be "
    "copied from a backup, or built in another folder"
)


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

    @cached_property
    def largest(self) -> float:
        """The largest scale; 1 if all are 0."""
        return float(self.scales.max()) or 1.0

    @cached_property
    def shares(self) -> Tensor:
        """Scales over the largest, (n,), float32: four bytes a row are held for the scan."""
        return (self.scales / self.largest).float()


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
) -> None:
    """Write some rows.

    The file of checksums is the last: a shard that has it is whole.  A manifest takes it over.
    """
    coordinates, scales = quantized(rows, dtype)
    columns = torch.cat([scales[:, None], selves[:, None], ratios], dim=1)
    arrays = {"coordinates": coordinates, "factors": columns}
    found = [
        summed(folder, write_array(folder / f"{part}-{name}.npy", arrays[part].numpy()))["crc32"]
        for part in PARTS
    ]
    write_array(folder / f"checksums-{name}.npy", np.array(found, dtype=np.uint32))


def summed(folder: Path, part: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of a file, with the checksum that it has now."""
    return {**part, "crc32": checksum(folder / part["file"])}


def described(name: str, n: int, dim: int, n_blocks: int, dtype: str) -> dict[str, Any]:
    """What a reader has to find of a shard, without its checksums."""
    own, factors = np.dtype(dtype).str, np.dtype("f8").str
    return {
        "coordinates": {"file": f"coordinates-{name}.npy", "dtype": own, "shape": [n, dim]},
        "factors": {"file": f"factors-{name}.npy", "dtype": factors, "shape": [n, 2 + n_blocks]},
    }


def noted(folder: Path, name: str, entry: dict[str, Any]) -> dict[str, Any] | None:
    """A described shard with the checksums that it was written with; None if it is not there."""
    own = {"file": f"checksums-{name}.npy", "dtype": np.dtype(np.uint32).str, "shape": [len(PARTS)]}
    try:
        sums = map_array(folder, own).tolist()
    except DamagedFile:
        return None
    return {part: {**entry[part], "crc32": sums[i]} for i, part in enumerate(PARTS)}


def is_whole(folder: Path, entry: dict[str, Any] | None) -> bool:
    """Whether the files of a shard are there, with the content that was written."""
    try:
        return entry is not None and all(
            map_array(folder, part, ALL) is not None for part in entry.values()
        )
    except DamagedFile:
        return False


def open_shard(
    folder: Path, entry: Any, dim: int, n_blocks: int, dtype: str, verify: bool = False
) -> Shard:
    """Map a shard.

    Raises
    ------
    DamagedFile
        If its files are not what the manifest says, or do not fit together; with ``verify``, if
        their content is not what was written.
    """
    if not isinstance(entry, dict):
        raise DamagedFile("the manifest of the index does not describe its shards")
    try:
        coordinates, factors = (
            map_array(folder, entry.get(part), ALL if verify else NONE) for part in PARTS
        )
    except DamagedFile as error:
        raise DamagedFile(f"{error}. {_REPAIR}") from error
    n = len(coordinates)
    fits = coordinates.shape == (n, dim) and factors.shape == (n, 2 + n_blocks)
    if not fits or coordinates.dtype != np.dtype(dtype) or factors.dtype != np.float64:
        raise DamagedFile(
            f"the shard {entry['coordinates']['file']} is damaged: {coordinates.dtype} of shape "
            f"{coordinates.shape} with factors of shape {factors.shape}; the index has rows of "
            f"{dim} {dtype}"
        )
    if verify and not (np.isfinite(factors[:, 0]).all() and np.min(factors[:, 0]) >= 0):
        raise DamagedFile(f"the shard {entry['factors']['file']} is damaged: it has odd scales")
    columns = torch.from_numpy(np.asarray(factors))
    rows = torch.from_numpy(np.asarray(coordinates))
    return Shard(rows, columns[:, 0], columns[:, 1], columns[:, 2:])
