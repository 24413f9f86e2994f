"""What the folder of an index says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from influencekit.index._decode import Decoder
from influencekit.index._encode import Encoder
from influencekit.index._fingerprints import versions, warn_of_versions
from influencekit.index._folder import read_manifest, write_manifest
from influencekit.index._shards import DTYPES, Shard, open_shard
from influencekit.utils._archives import DamagedFile

__all__ = ["Contents", "read_contents", "write_contents"]

FORMAT, VERSION = "influencekit index", 1


@dataclass
class Contents:
    """What the manifest of an index holds.

    Attributes
    ----------
    dtype : str
    dim, n_blocks : int
        Numbers of a row, and maps that they come from.
    shards : list of dict
        Files, dtypes and shapes.
    rounding : dict
        What storing rows in few bits costs.
    models : list of str
        Digests.
    several : bool
        Whether ``fit`` was given a list of models.
    learned : list of ndarray
        Rows that each model learned from; empty if each learned from all.
    labels : pandas.Index or None
    removed : ndarray of int
        Rows without their place being taken away.
    generation : int
        Number of changes since the build.
    """

    dtype: str
    dim: int
    n_blocks: int
    shards: list[dict[str, Any]]
    rounding: dict[str, Any]
    models: list[str]
    several: bool
    learned: list[np.ndarray]
    labels: Any = None
    removed: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    generation: int = 0
    saved_settings: Any = None

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return sum(int(entry["coordinates"]["shape"][0]) for entry in self.shards)

    @property
    def bytes_per_row(self) -> float:
        """Bytes of coordinates and factors."""
        parts = [part for entry in self.shards for part in entry.values()]
        total = sum(prod(p["shape"]) * np.dtype(p["dtype"]).itemsize for p in parts)
        return total / max(1, self.n_rows)

    def open_shards(self, folder: Path) -> list[Shard]:
        """Map all shards."""
        options = (self.dim, self.n_blocks, self.dtype)
        return [open_shard(folder, entry, *options) for entry in self.shards]

    def settings(self, folder: Path) -> dict[str, Any]:
        """Parameters of the index that wrote the folder."""
        tree, arrays = self.saved_settings
        found = Decoder(folder, arrays).decode(tree)
        if not isinstance(found, dict):
            raise DamagedFile("the manifest of the index does not hold its settings")
        return found


def write_contents(folder: Path, contents: Contents, index: Any) -> None:
    """Write the manifest of an index; from here on it is whole."""
    own = folder / "settings"
    own.mkdir(exist_ok=True)
    encoder = Encoder(own, ())
    settings = {k: v for k, v in index.get_params(deep=False).items() if k != "folder"}
    tree = encoder.encode(settings, "AttributionIndex")
    manifest = {
        "format": FORMAT,
        "format_version": VERSION,
        "versions": versions(),
        "settings": tree,
        **{name: getattr(contents, name) for name in _PLAIN},
        "removed": encoder.encode(contents.removed, "removed"),
        "learned": encoder.encode(contents.learned, "learned"),
        "labels": encoder.encode(contents.labels, "train_index_"),
        "arrays": encoder.arrays,
    }
    contents.saved_settings = (tree, encoder.arrays)
    write_manifest(folder, manifest)


_PLAIN = ("dtype", "dim", "n_blocks", "shards", "rounding", "models", "several", "generation")


def read_contents(folder: Path) -> Contents:
    """Read the manifest of an index.

    Raises
    ------
    DamagedFile
        If it does not hold what an index needs.
    """
    manifest = read_manifest(folder, FORMAT, VERSION)
    warn_of_versions(folder, manifest.get("versions"))
    decoder = Decoder(folder / "settings", manifest.get("arrays"))
    try:
        plain = {name: manifest[name] for name in _PLAIN}
        rest = {n: decoder.decode(manifest[n]) for n in ("removed", "learned", "labels")}
        contents = Contents(**plain, **rest)
        contents.saved_settings = (manifest["settings"], manifest["arrays"])
        sizes = all(type(n) is int and 0 < n < 2**32 for n in (contents.dim, contents.n_blocks))
        removed = np.asarray(contents.removed)
        inside = removed.dtype.kind == "i" and np.isin(removed, np.arange(contents.n_rows)).all()
        if contents.dtype not in DTYPES or not sizes or not inside:
            raise ValueError("dtype, dim or removed rows")
    except DamagedFile:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedFile(
            f"{folder} is damaged: its manifest lacks what an index needs ({error})"
        ) from error
    return contents
