"""Storage of a study, opened before the work whose results it is to keep."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock

from influencekit.utils._files import remove_once, unfinished_name

__all__ = ["check_storage", "study_lock"]

#: Seconds to wait for other processes that open a study.
_LOCK_SECONDS = 600


def check_storage(storage: Any) -> None:
    """Refuse storage that cannot be opened, or an SQLite file that cannot be written.

    Parameters
    ----------
    storage : str, optuna storage or None

    Raises
    ------
    ValueError
    """
    if not isinstance(storage, str):
        return
    file = _file(storage)
    if file is not None and not file.parent.is_dir():
        raise _unusable(storage, f"the folder {file.parent} does not exist")
    try:
        if file is not None:
            _make(storage, file)
        optuna.storages.get_storage(storage)
        if file is not None:
            _try_to_write(file)
    except Exception as error:  # of SQLAlchemy, of a driver, or of an import
        raise _unusable(storage, f"{type(error).__name__}: {error}") from error


def _file(storage: Any) -> Path | None:
    """An SQLite file; None for other storage and for memory."""
    url = storage if isinstance(storage, str) else getattr(storage, "url", "")
    kind, _, path = url.partition(":///") if isinstance(url, str) else ("", "", "")
    path = path.split("?")[0]
    named = kind.startswith("sqlite") and path and not path.startswith((":memory:", "file:"))
    return Path(os.path.abspath(path)) if named else None


def _make(storage: str, file: Path) -> None:
    """Give a new file its name when all tables and indexes are in it.

    Optuna makes them one by one and does not add an index that a kill has left out, without which
    two studies can have one name.
    """
    with study_lock(storage, None):
        if file.exists() and file.stat().st_size:
            return
        remove_once(str(file.parent))
        own = file.with_name(f"{unfinished_name()}{file.suffix}")
        try:
            kind = storage.partition(":///")[0]
            optuna.storages.RDBStorage(f"{kind}:///{own}").engine.dispose()
            os.replace(own, file)
        finally:
            own.unlink(missing_ok=True)


@contextmanager
def study_lock(storage: Any, study_name: str | None) -> Iterator[None]:
    """Keep other processes of this machine from opening the same study while inside.

    Parameters
    ----------
    storage : str, optuna storage or None
        The lock of an SQLite file is a file next to it; other locks are in the folder of temporary
        files.
    study_name : str or None
    """
    if storage is None:
        yield
        return
    with FileLock(_lock_path(storage, study_name), timeout=_LOCK_SECONDS):
        yield


def _lock_path(storage: Any, study_name: str | None) -> Path:
    file = _file(storage)
    if file is not None:
        return file.with_name(f"{file.name}.lock")
    user = getattr(os, "getuid", lambda: "")()  # another user's lock could not be opened
    key = hashlib.sha256(f"{user} {study_name}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"influencekit-study-{key}.lock"


def _try_to_write(path: Path) -> None:
    """Take the right to write, and give it back without a change."""
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _unusable(storage: str, why: str) -> ValueError:
    shown = re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", storage)  # no password in a message
    why = re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", " ".join(why.split()))
    return ValueError(
        f"storage: got {shown!r}, which cannot be used ({why}); accepted are URLs that Optuna can "
        "open and write to, such as 'sqlite:///study.db' in a folder that exists, Optuna's "
        "storages, and None."
    )
