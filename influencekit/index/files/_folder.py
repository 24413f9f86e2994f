"""Folders of arrays and one JSON manifest, of which nothing is believed before it is checked."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np

from influencekit.utils._archives import DamagedFile
from influencekit.utils._arguments import check_path
from influencekit.utils._files import (
    UNFINISHED,
    check_writable,
    is_abandoned,
    remove_abandoned,
    unfinished_name,
    whole_file,
    writing,
)
from influencekit.utils._long_work import format_bytes

__all__ = [
    "MANIFEST",
    "checksum",
    "map_array",
    "new_folder",
    "read_manifest",
    "write_array",
    "write_manifest",
]

MANIFEST = "manifest.json"
#: Prefix of the file that is in a folder while its first files are written.
MARK = "unfinished-save-"
#: Entry of a manifest that holds the checksum of the others.
CHECK = "check"
#: Largest manifest that is read.
LARGEST_MANIFEST = 2**28
#: Kinds of dtypes that are read: numbers, dates and text of fixed width; never objects.
KINDS = "biufcmMUS"
_NAME = re.compile(r"[a-z0-9_-]{1,80}\.npy")


@contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """A folder for something new, which does not exist yet or is empty.

    If writing fails, its files are deleted. What a killed process wrote into it before the manifest
    is deleted by the next one.

    Parameters
    ----------
    folder : path-like

    Yields
    ------
    Path

    Raises
    ------
    FileExistsError
        If it holds files.
    """
    check_path("folder", folder)
    folder = Path(folder)
    killed = any(is_abandoned(path, MARK) for path in folder.glob(f"{MARK}*"))
    if killed and not (folder / MANIFEST).exists():
        _remove_files(folder)
        for prefix in (MARK, UNFINISHED):
            remove_abandoned(folder, prefix)
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"folder: {str(folder)!r} is not empty; accepted is an empty folder or a new one. "
            "Give another, or delete it first."
        )
    check_writable(folder, "folder")
    mark = folder / unfinished_name(MARK)
    mark.touch()  # says whose the files are until all of them are there
    try:
        yield folder
    except BaseException:
        _remove_files(folder)
        raise
    finally:
        mark.unlink(missing_ok=True)


def _remove_files(folder: Path) -> None:
    """Delete the arrays of an attributor, whose names are numbers."""
    for path in folder.glob("*.npy"):
        if path.stem.isdigit():
            path.unlink()


def write_array(path: Path, array: np.ndarray) -> dict[str, Any]:
    """Write one array, and say what a reader has to find.

    Parameters
    ----------
    path : Path
    array : ndarray
        Of numbers, dates or text of fixed width.

    Returns
    -------
    dict
        Its dtype and shape, for the manifest.
    """
    with writing(path.parent, "folder"), whole_file(path) as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return {"file": path.name, "dtype": array.dtype.str, "shape": list(array.shape)}


def checksum(path: Path) -> int:
    """CRC-32 of a file, which is read a block at a time."""
    found = 0
    with open(path, "rb") as file:
        while part := file.read(2**20):
            found = crc32(part, found)
    return found


def map_array(folder: Path, described: Any, most: int = 2**63) -> np.ndarray:
    """Map an array of a folder into memory; changes to it stay in this process.

    Parameters
    ----------
    folder : Path
    described : dict
        What :func:`write_array` returned; with a ``crc32``, the content is compared, too.
    most : int, default=2**63
        Bytes of the largest file whose content is compared.

    Returns
    -------
    ndarray

    Raises
    ------
    DamagedFile
        If the file is not exactly what the manifest says.
    """
    name, dtype, shape = _description(folder, described)
    path = folder / name
    with _open(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
            found_shape, fortran, found = read(file, max_header_size=10_000)
        except Exception as error:  # numpy raises a dozen kinds for bytes of chance
            raise DamagedFile(f"{path} is damaged (no header of an array: {error})") from error
        if found != dtype or tuple(found_shape) != shape:
            raise DamagedFile(
                f"{path} is damaged: it holds {found} of shape {tuple(found_shape)}, and the "
                f"manifest says {dtype} of shape {shape}"
            )
        start, size = file.tell(), os.fstat(file.fileno()).st_size
        if size != start + prod(shape) * dtype.itemsize:
            raise DamagedFile(
                f"{path} is damaged: it has {format_bytes(size)}, and {dtype} of shape {shape} "
                f"takes {format_bytes(start + prod(shape) * dtype.itemsize)}"
            )
        known = described.get("crc32")  # older folders have none
        if known is not None and size <= most and checksum(path) != known:
            raise DamagedFile(f"{path} is damaged: its content is not what was written")
        order: Any = "F" if fortran else "C"
        if prod(shape) == 0:
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "c", start, shape, order)


def _description(folder: Path, described: Any) -> tuple[str, np.dtype, tuple[int, ...]]:
    """Name, dtype and shape of an array, as far as a manifest can be trusted with them."""
    try:
        name, shape = described["file"], tuple(described["shape"])
        dtype = np.dtype(described["dtype"])
        sizes = all(type(n) is int and 0 <= n < 2**48 for n in shape)
        good = bool(_NAME.fullmatch(name)) and dtype.kind in KINDS and sizes
    except (TypeError, KeyError, ValueError):
        good = False
    if not good or prod(shape) >= 2**48:
        raise DamagedFile(
            f"{folder / MANIFEST} is damaged: it describes an array as {str(described)[:200]}"
        )
    return name, dtype, shape


def _open(path: Path) -> BinaryIO:
    """Open an ordinary file: no link, which may point anywhere, and no pipe, which may block."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        raise DamagedFile(f"{path.parent} is damaged: {path.name} is missing") from None
    if not stat.S_ISREG(kind):
        raise DamagedFile(f"{path} is not an ordinary file, such as a link; accepted are files")
    return open(path, "rb")


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write what a folder holds, after everything that it names is there."""
    checked = {**manifest, CHECK: crc32(_as_bytes(manifest))}
    with writing(folder, "folder"), whole_file(folder / MANIFEST) as file:
        file.write(_as_bytes(checked))


def _as_bytes(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, separators=(",", ":")).encode()


def _without_check(manifest: Any) -> Any:
    """What a manifest says, after it is compared with its checksum; older ones have none.

    Raises
    ------
    ValueError
    """
    if isinstance(manifest, dict) and CHECK in manifest:
        manifest = {**manifest}
        if manifest.pop(CHECK) != crc32(_as_bytes(manifest)):
            raise ValueError("its content is not what was written")
    return manifest


def read_manifest(folder: str | os.PathLike, kind: str, version: int) -> dict[str, Any]:
    """Read what a folder holds.

    Parameters
    ----------
    folder : path-like
    kind : str
        What it has to hold: its ``format``.
    version : int
        The version of the format that is read.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
    ValueError
        If it holds something else, in another version, or is damaged.
    """
    check_path("folder", folder)
    path = Path(folder) / MANIFEST
    if not path.parent.is_dir() or not os.path.lexists(path):
        raise FileNotFoundError(
            f"folder: {os.fspath(folder)!r} has no {MANIFEST}; accepted is a folder that "
            f"influencekit wrote: {kind}."
        )
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_MANIFEST:
            raise DamagedFile(f"{path} has {format_bytes(size)}, too much for a manifest")
        content = file.read(LARGEST_MANIFEST)
    try:
        manifest = _without_check(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged ({str(error) or type(error).__name__})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise DamagedFile(f"{path} is of the format {str(found)[:80]!r}; accepted is {kind!r}")
    if manifest.get("format_version") != version:
        raise DamagedFile(
            f"{path} is of format version {str(manifest.get('format_version'))[:20]}, and this "
            f"influencekit reads version {version}; read it with the one that wrote it, "
            f"{str(manifest.get('versions'))[:200]}"
        )
    return manifest
