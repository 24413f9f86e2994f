"""Files that are written whole or not at all, whoever else writes or reads beside."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["remove_abandoned", "whole_file"]

#: How names of files begin that are not whole yet.
UNFINISHED = "unfinished-"
_STALE_SECONDS = 3600  # longer than any write takes


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name when everything is on disk.

    Every writer has a file of its own, in the same folder, until then.  Of several writers of
    one name the last to finish wins, and a reader sees the old file or the new one.  If writing
    fails, the old file stays and nothing else is left behind.

    Parameters
    ----------
    path : path-like
        Its folder must exist; an existing file is replaced.

    Yields
    ------
    file open for writing bytes

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from influencekit.utils._files import whole_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "answer.txt"
    ...     with whole_file(path) as file:
    ...         _ = file.write(b"42")
    ...     path.read_bytes(), len(list(path.parent.iterdir()))
    (b'42', 1)
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path: {str(path)!r} has no folder {str(path.parent)!r}; accepted is a file's name in "
            "a folder that exists. Make the folder first."
        )
    own = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}{path.suffix}")
    try:
        with open(own, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(own, path)
    except BaseException:
        own.unlink(missing_ok=True)
        raise


def remove_abandoned(folder: Path) -> None:
    """Delete unfinished files that a kill left in a folder.

    Files of writers that are still at work are young and stay.  Any file may be gone, or have
    its final name, by the time it is looked at.

    Parameters
    ----------
    folder : Path
    """
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
