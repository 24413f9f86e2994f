"""Archives of arrays from disk, of which nothing is believed before it is checked."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np

from influencekit.exceptions import ResourceError
from influencekit.utils._long_work import format_bytes, free_memory

__all__ = ["DamagedFile", "read_arrays"]


class DamagedFile(ValueError):
    """A file does not hold what was written; the message has its path and what is wrong with it."""


def read_arrays(path: str | os.PathLike, at_most: int | None = None) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file.

    Every byte of an array is compared with its checksum, nothing is unpickled, and an archive that
    unpacks to more than its limit is refused from its list of contents.  Messages lack the name of
    the user's argument and what to do, which the caller knows.

    Parameters
    ----------
    path : path-like
    at_most : int, default=None
        Bytes that the arrays may take; by default half of the free memory.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    FileNotFoundError
    DamagedFile
        If the file has other content than was written.
    ResourceError
        If it unpacks to more than ``at_most``.
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if len(archive.infolist()) != int.from_bytes(content[-12:-10], "little"):
                raise zipfile.BadZipFile("its list of contents is incomplete")
            size = sum(part.file_size for part in archive.infolist())
            limit = free_memory() // 2 if at_most is None else at_most
            if size <= limit:
                return {n.removesuffix(".npy"): _read(archive, n) for n in archive.namelist()}
    except Exception as error:  # zipfile and numpy raise a dozen kinds for bytes of chance
        reason = str(error).strip() or type(error).__name__
        raise DamagedFile(f"{os.fspath(path)} is damaged ({reason})") from error
    raise ResourceError(
        f"{os.fspath(path)} has {format_bytes(len(content))} and unpacks to {format_bytes(size)}; "
        f"accepted are up to {format_bytes(limit)}, so it was not unpacked"
    )


def _read(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array, from bytes that were read to their end: only then is the checksum compared."""
    return np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
