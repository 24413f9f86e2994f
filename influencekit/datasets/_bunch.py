"""The data folder, files that are read, and frames as scikit-learn's Bunch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from influencekit.utils._arguments import check_path
from influencekit.utils._optional import import_optional

__all__ = ["as_bunch", "find_file", "get_data_home", "read_table", "rows_of_tenth"]


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
    if data_home is not None:
        check_path("data_home", data_home)
    else:
        data_home = os.environ.get("INFLUENCEKIT_DATA") or Path.home() / "influencekit_data"
    return Path(data_home).expanduser()


def find_file(home: Path, folder: str, name: str) -> Path | None:
    """A file in the data folder or one of its subfolders; None if it does not exist."""
    for place in (home / folder / name, home / name):
        if place.is_file():
            return place
    return None


def read_table(path: str | os.PathLike, caller: str, columns: Sequence[str]) -> Any:
    """A downloaded csv or xlsx file as a DataFrame that has the named columns.

    Parameters
    ----------
    path : str or path
    caller : str
        Who asks, for messages.
    columns : sequence of str

    Returns
    -------
    DataFrame
        Empty rows are left out, names of columns are stripped.
    """
    pd = import_optional("pandas", caller)
    check_path("path", path)
    file = Path(path).expanduser()
    if not file.is_file():
        raise OSError(
            f"path: got {str(path)!r}, which is not a file; accepted is the data set's csv or xlsx "
            f"file. Download it and name it: {caller}('folder/file.csv')."
        )
    excel = file.suffix.lower() == ".xlsx"
    if excel:
        import_optional("openpyxl", caller)
    try:
        frame = pd.read_excel(file) if excel else pd.read_csv(file)
    except ValueError as error:  # of the parser, and of text in another encoding
        raise ValueError(
            f"path: {file.name} cannot be read as a table ({str(error).strip()}); accepted is the "
            f"data set's csv or xlsx file. Give it to {caller} as it was downloaded."
        ) from error
    frame = frame.rename(columns=lambda name: str(name).strip()).dropna(how="all")
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(
            f"{caller}: {file.name} has no column {missing}; it has {list(frame.columns)}. Give "
            "the data set's own file, with its header."
        )
    return frame.reset_index(drop=True)


def rows_of_tenth(n_rows: int) -> dict[str, Any]:
    """Positions of ``train_rows``, and of ``test_rows``: a tenth, as published.

    Parameters
    ----------
    n_rows : int
    """
    train, test = train_test_split(np.arange(n_rows), test_size=0.1, random_state=0)
    return {"train_rows": train, "test_rows": test}
