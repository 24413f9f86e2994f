"""Storage of a study, opened before the work whose results it is to keep."""

from __future__ import annotations

import os
import re
import sqlite3
from typing import Any

import optuna

__all__ = ["check_storage"]

_SQLITE = "sqlite:///"


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
    if file is not None:
        folder = os.path.dirname(os.path.abspath(file))
        if not os.path.isdir(folder):
            raise _unusable(storage, f"the folder {folder} does not exist")
    try:
        optuna.storages.get_storage(storage)
        if file is not None:
            _try_to_write(file)
    except Exception as error:  # of SQLAlchemy, of a driver, or of an import
        raise _unusable(storage, f"{type(error).__name__}: {error}") from error


def _file(storage: str) -> str | None:
    """Path of an SQLite file; None for other storage and for memory."""
    path = storage.removeprefix(_SQLITE).split("?")[0]
    named = storage.startswith(_SQLITE) and path and not path.startswith((":memory:", "file:"))
    return path if named else None


def _try_to_write(path: str) -> None:
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
