"""What the folder of an index says of itself."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from influencekit.index._shards import DTYPES, PARTS, Shard, open_shard
from influencekit.index.files._decode import Decoder
from influencekit.index.files._encode import Encoder
from influencekit.index.files._fingerprints import versions, warn_of_versions
from influencekit.index.files._folder import read_manifest, write_manifest
from influencekit.utils._archives import DamagedFile

__all__ = ["Contents", "delete_others", "inner_folder", "read_contents", "write_contents"]

FORMAT, VERSION = "influencekit index", 1
#: Parameters that say nothing of the files.
_OF_THE_CALL = {"folder", "n_jobs"}


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
    learned : list of ndarray
        Rows that each model learned from; empty if each learned from all.
    labels : pandas.Index or None
    removed : ndarray of int
        Rows without their place being taken away.
    generation : int
        Number of changes since the build.
    map : str
        Folder of the map.
    """

    dtype: str
    dim: int
    n_blocks: int
    shards: list[dict[str, Any]]
    rounding: dict[str, Any]
    models: list[str]
    learned: list[np.ndarray]
    labels: Any = None
    removed: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    generation: int = 0
    map: str = "map"
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

    def open_shards(self, folder: Path, verify: bool = False) -> list[Shard]:
        """Map all shards; with ``verify``, compare their content with their checksums."""
        options = (self.dim, self.n_blocks, self.dtype, verify)
        return [open_shard(folder, entry, *options) for entry in self.shards]

    def check(self, dim: int, n_blocks: int, folder: Path) -> None:
        """Refuse a map of other coordinates than the rows'.

        Raises
        ------
        DamagedFile
        """
        if (dim, n_blocks) != (self.dim, self.n_blocks):
            raise DamagedFile(
                f"{folder} is damaged: its map gives {dim} numbers of {n_blocks} blocks, and its "
                f"rows have {self.dim} of {self.n_blocks}"
            )

    def settings(self, folder: Path, names: set[str]) -> dict[str, Any]:
        """Parameters of the index that wrote the folder."""
        tree, arrays = self.saved_settings
        found = Decoder(_state_folder(folder, self.generation), arrays).decode(tree)
        if not isinstance(found, dict) or set(found) != names - _OF_THE_CALL:
            raise DamagedFile("the manifest of the index does not hold its settings")
        return found


def inner_folder(folder: Path, name: str) -> Path:
    """A folder inside another one, no link to somewhere else.

    Raises
    ------
    DamagedFile
    """
    inner = folder / name
    if inner.is_symlink():
        raise DamagedFile(f"{inner} is a link; accepted are folders")
    return inner


def _state_folder(folder: Path, generation: int) -> Path:
    """Where arrays of the manifest are: each change has its own, so that readers find theirs."""
    return inner_folder(folder, f"state-{generation:06d}")


def write_contents(folder: Path, contents: Contents, index: Any) -> None:
    """Write the manifest of an index; from here on it is whole, and older files are deleted."""
    own = _state_folder(folder, contents.generation)
    own.mkdir(exist_ok=True)
    encoder = Encoder(own, ())
    params = clone(index).get_params(deep=False)
    settings = {k: v for k, v in params.items() if k not in _OF_THE_CALL}
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
    delete_others(folder, contents)


def delete_others(folder: Path, contents: Contents) -> None:
    """Delete files of this format that the manifest does not name."""
    inner = (contents.map, f"state-{contents.generation:06d}")
    named = {part["file"] for entry in contents.shards for part in entry.values()}
    for path in folder.iterdir():
        if _SHARD.fullmatch(path.name) and path.name not in named:
            path.unlink(missing_ok=True)
        elif _INNER.fullmatch(path.name) and path.name not in inner and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


_SHARD = re.compile(r"(coordinates|factors|checksums)-[a-z0-9-]+\.npy")
_MAP = re.compile(r"map(-\d{6})?")
_INNER = re.compile(r"map(-\d{6})?|state-\d{6}")
_PLAIN = ("dtype", "dim", "n_blocks", "shards", "rounding", "models", "generation", "map")


def read_contents(folder: Path) -> Contents:
    """Read the manifest of an index.

    Raises
    ------
    DamagedFile
        If it does not hold what an index needs.
    """
    manifest = read_manifest(folder, FORMAT, VERSION)
    warn_of_versions(folder, manifest.get("versions"))
    try:
        _check_plain(manifest)
        generation = manifest["generation"]
        decoder = Decoder(_state_folder(folder, generation), manifest.get("arrays"))
        plain = {name: manifest[name] for name in _PLAIN}
        rest = {n: decoder.decode(manifest[n]) for n in ("removed", "learned", "labels")}
        contents = Contents(**plain, **rest)
        contents.saved_settings = (manifest["settings"], manifest["arrays"])
        sizes = all(type(n) is int and 0 < n < 2**32 for n in (contents.dim, contents.n_blocks))
        removed = np.asarray(contents.removed)
        inside = removed.dtype.kind == "i" and np.isin(removed, np.arange(contents.n_rows)).all()
        masks = [np.asarray(mask) for mask in contents.learned]
        fits = all(mask.dtype == bool and mask.shape == (contents.n_rows,) for mask in masks)
        known = fits and contents.dtype in DTYPES and bool(_MAP.fullmatch(contents.map))
        if not known or not sizes or not inside:
            raise ValueError("dtype, dim or removed rows")
    except DamagedFile:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedFile(
            f"{folder} is damaged: its manifest lacks what an index needs ({error})"
        ) from error
    return contents


def _check_plain(manifest: dict[str, Any]) -> None:
    """Refuse generations without a folder, models that are not digests, and mixed files.

    Raises
    ------
    ValueError
    """
    generation, models = manifest["generation"], manifest["models"]
    if type(generation) is not int or not 0 <= generation < 10**6:
        raise ValueError(f"generation {str(generation)[:20]}")
    if not isinstance(models, list) or not models or not all(isinstance(m, str) for m in models):
        raise ValueError("models")
    files = [[entry[part]["file"] for part in PARTS] for entry in manifest["shards"]]
    names = [[f"{part}-{own[0].partition('-')[2]}" for part in PARTS] for own in files]
    if not files or files != names or len({own[0] for own in files}) < len(files):
        raise ValueError("shards, each a pair of files of one name")
