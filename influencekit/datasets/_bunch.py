"""The data folder, and frames as scikit-learn's Bunch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.utils import Bunch

__all__ = ["as_bunch", "find_file", "get_data_home"]


def as_bunch(X: Any, y: Any, *, as_frame: bool, return_X_y: bool, **more: Any) -> Any:
    """(X, y), or a Bunch with scikit-learn's names, as pandas or as arrays.

    Parameters
    ----------
    X : DataFrame
    y : Series
    as_frame, return_X_y : bool
    **more : object
        Further entries of the Bunch.
    """
    import pandas as pd

    names = {"feature_names": list(X.columns), "target_name": y.name}
    frame = pd.concat([X, y], axis=1) if as_frame else None
    data, target = (X, y) if as_frame else (X.to_numpy(dtype=float), y.to_numpy())
    if return_X_y:
        return data, target
    return Bunch(data=data, target=target, frame=frame, **names, **more)


def get_data_home(data_home: str | os.PathLike | None = None) -> Path:
    """Folder in which data sets are searched and to which they are downloaded.

    Parameters
    ----------
    data_home : str, path or None, default=None
        None is the environment variable ``INFLUENCEKIT_DATA``, or else
        ``influencekit_data`` in the home directory.

    Returns
    -------
    pathlib.Path
        The folder, which need not exist.
    """
    if data_home is None:
        data_home = os.environ.get("INFLUENCEKIT_DATA") or Path.home() / "influencekit_data"
    return Path(data_home).expanduser()


def find_file(home: Path, folder: str, name: str) -> Path | None:
    """A file in the data folder or one of its subfolders; None if it does not exist."""
    for place in (home / folder / name, home / name):
        if place.is_file():
            return place
    return None
