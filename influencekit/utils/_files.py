"""Files that are written completely or not at all, even with other writers and readers."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "check_name",
    "check_writable",
    "remove_abandoned",
    "remove_once",
    "unfinished_name",
    "whole_file",
    "writing",
]

#: Prefix of the names of unfinished files.
UNFINISHED = "unfinished-"
_STALE_SECONDS = 3600  # longer than any write takes
_TRIED_BYTES = 4096  # a block of most file systems
#: What follows the prefix: machine, process, chance, and when the process began.
_OWN_NAME = re.compile(r"([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.(\d*)")


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only when everything is on disk.

    Until then, every writer has its own file in the same folder. If several write to the same name,
    the last one to finish wins, and a reader sees either the old file or the new one. If writing
    fails, the old file stays and nothing else is left behind. What killed processes left in the
    folder is removed, once in a process.

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
    check_name(path, "path")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path: {str(path)!r} has no folder {str(path.parent)!r}; accepted is a file name in "
            f"an existing folder. Make the folder first."
        )
    remove_once(str(path.parent.resolve()))
    own = path.with_name(f"{unfinished_name()}{path.suffix}")
    try:
        with open(own, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(own, path)
    except BaseException:
        own.unlink(missing_ok=True)
        raise


def unfinished_name(prefix: str = UNFINISHED) -> str:
    """A name for a file or folder that only this process writes, and that tells which one it is."""
    process = os.getpid()
    own = f"{secrets.token_hex(8)}.{_begun(process)}"
    return f"{prefix}{_machine()}-{process}-{own}"


def _begun(process: int) -> str:
    """When a process began, in ticks since the machine did; "" where the system does not tell.

    The numbers of ended processes are given to others, above all after the machine began again.
    """
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[19]


def _machine() -> str:
    """Where the numbers of processes mean what they mean here."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # containers number their own processes
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def is_abandoned(path: Path, prefix: str = UNFINISHED) -> bool:
    """Whether the process that wrote an unfinished file or folder has ended.

    Of files of other machines only the age is known; their folders may be at work for hours.
    Other files, which somebody named like this, never count.

    Parameters
    ----------
    path : Path
        A name of :func:`unfinished_name`.
    prefix : str
        That of the name.

    Returns
    -------
    bool
    """
    parts = _OWN_NAME.match(path.name.removeprefix(prefix))
    if parts is None:
        return False
    machine, number, began = parts.groups()
    if machine == _machine() and os.name == "posix":
        another = bool(began) and began != _begun(int(number))
        return another or not _runs(int(number))
    return not path.is_dir() and time.time() - path.stat().st_mtime > _STALE_SECONDS


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def remove_abandoned(folder: Path, prefix: str = UNFINISHED) -> None:
    """Delete what killed processes left unfinished in a folder.

    What running processes write stays, and what another machine wrote within the last hour.  Any
    file may disappear, or get its final name, before it is checked.

    Parameters
    ----------
    folder : Path
    prefix : str, default="unfinished-"
        That of names by :func:`unfinished_name`.
    """
    for path in folder.glob(f"{prefix}*"):
        with suppress(FileNotFoundError, PermissionError):
            if is_abandoned(path, prefix):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@functools.cache
def remove_once(folder: str, prefix: str = UNFINISHED) -> None:
    """:func:`remove_abandoned`, for the first time in this process only."""
    remove_abandoned(Path(folder), prefix)


def check_name(path: str | os.PathLike, argument: str) -> None:
    """Refuse names that no file system has.

    Parameters
    ----------
    path : path-like
    argument : str
        The user's argument, for the message.

    Raises
    ------
    ValueError
    """
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise ValueError(
            f"{argument}: got {name!r}; accepted is a name of at least one character, without null "
            "characters. Give '.' for the current folder."
        )


def check_writable(folder: str | os.PathLike, argument: str, n_bytes: int = 0) -> None:
    """Make a folder and try to write to it, before work begins.

    Parameters
    ----------
    folder : path-like
    argument : str
        The user's argument, for the message.
    n_bytes : int, default=0
        Bytes that will be written at least.

    Raises
    ------
    ValueError
        If the folder has no name.
    OSError
        If the folder cannot be made or written, or the disk is too full; its class is the one that
        the system raised.
    """
    check_name(folder, argument)
    folder = Path(folder)
    with writing(folder, argument):
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        own = folder / unfinished_name()
        try:
            own.write_bytes(bytes(_TRIED_BYTES))
        finally:
            own.unlink(missing_ok=True)
        if shutil.disk_usage(folder).free < n_bytes:
            raise OSError(errno.ENOSPC, f"{n_bytes:,} bytes are needed, fewer are free")


@contextmanager
def writing(folder: str | os.PathLike, argument: str) -> Iterator[None]:
    """Name the user's argument in errors of the file system inside the block.

    Parameters
    ----------
    folder : path-like
    argument : str

    Raises
    ------
    OSError
        With the same class as the error that was raised inside.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if reason.startswith(f"{argument}: "):
            raise  # named already
        text = (
            f"{argument}: {os.fspath(folder)!r} cannot be written ({reason}); accepted is a folder "
            "that you may write to, on a disk with free space. Give another, or free the disk."
        )
        raise (OSError(error.errno, text) if error.errno else type(error)(text)) from error
