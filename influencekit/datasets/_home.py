"""Where data sets are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["find_file", "get_data_home"]


def get_data_home(data_home: str | os.PathLike | None = None) -> Path:
    """Folder that data sets are looked for in and downloaded to.

    Parameters
    ----------
    data_home : str, path or None, default=None
        None is the environment variable ``INFLUENCEKIT_DATA``, or else
        ``influencekit_data`` in the home directory.

    Returns
    -------
    pathlib.Path
        It need not exist.
    """
    if data_home is None:
        data_home = os.environ.get("INFLUENCEKIT_DATA") or Path.home() / "influencekit_data"
    return Path(data_home).expanduser()


def find_file(home: Path, folder: str, name: str) -> Path | None:
    """A file of the data folder, in a subfolder or beside the others; None if it is not there."""
    for place in (home / folder / name, home / name):
        if place.is_file():
            return place
    return None
