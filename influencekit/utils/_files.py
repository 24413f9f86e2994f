"""Files that are written completely or not at all, even with other writers and readers."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["remove_abandoned", "whole_file"]

#: Prefix of the names of unfinished files.
UNFINISHED = "unfinished-"
_STALE_SECONDS = 3600  # longer than any write takes


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only when everything is on disk.

    Until then, every writer has its own file in the same folder. If several write to the same name,
    the last one to finish wins, and a reader sees either the old file or the new one. If writing
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
            f"path: {str(path)!r} has no folder {str(path.parent)!r}; accepted is a file name in "
            f"an existing folder. Make the folder first."
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
    """Delete unfinished files that a killed process left in a folder.

    Recent files stay, because their writers may still be at work. Any file may disappear, or get
    its final name, before it is checked.

    Parameters
    ----------
    folder : Path
    """
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
