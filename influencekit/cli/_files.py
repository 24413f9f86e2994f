"""Tables that the command line reads and writes: CSV, parquet, JSON lines and npz."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from influencekit.data.slices._open import open_slices
from influencekit.data.slices._row_slices import RowSlices
from influencekit.utils._optional import import_optional

__all__ = ["Rows", "check_folder", "check_written", "read_rows", "without_names", "write_table"]

#: How files are told apart, and what pandas calls their readers.
READERS = {".csv": "read_csv", ".parquet": "read_parquet", ".jsonl": "read_json"}


class Rows(NamedTuple):
    """Examples and their targets.

    Attributes
    ----------
    X : DataFrame, ndarray or RowSlices
    y : Series, ndarray or None
    """

    X: Any
    y: Any


def read_rows(path: str, target: str | None, argument: str, stream: bool = False) -> Rows:
    """Read examples and targets.

    Parameters
    ----------
    path : str
        A ``.csv``, ``.parquet`` or ``.jsonl`` table; an ``.npz`` file with arrays ``X`` and,
        where there are targets, ``y``; or a folder, see :func:`open_slices`.
    target : str or None
        Column with the targets; not needed for ``.npz``.
    argument : str
        Option that named the file, for messages.
    stream : bool, default=False
        Read ``.parquet`` files a slice at a time, as folders are.

    Returns
    -------
    Rows
        X are slices, and y is None, where it is read a slice at a time.

    Raises
    ------
    ValueError
        If the file does not exist, is of another kind, or has no such column.
    """
    file = Path(path)
    if file.is_dir() or (stream and file.suffix == ".parquet" and file.is_file()):
        return Rows(open_slices(file, target=target), None)
    if not file.is_file():
        raise ValueError(f"{argument}: there is no file {path!r}. Give one that exists.")
    if file.suffix == ".npz":
        return _told(_read_arrays, file, argument)
    if file.suffix not in READERS:
        raise ValueError(
            f"{argument}: got {file.name!r}; accepted are files that end in "
            f"{', '.join(READERS)} or .npz, and folders."
        )
    table = _told(_read_table, file, argument)
    if not len(table.columns):
        raise ValueError(f"{argument}: {file.name} has no columns.")
    if target is None:
        return Rows(table, None)
    if target not in table.columns:
        names = ", ".join(map(str, table.columns[:20]))
        raise ValueError(
            f"--target: {file.name} has no column {target!r}; it has {names}. Name one of them."
        )
    return Rows(table.drop(columns=target), table[target])


def without_names(rows: Rows) -> Rows:
    """The same rows as arrays, for models that were fitted without names."""
    if isinstance(rows.X, RowSlices):
        return rows._replace(X=_Unnamed(rows.X))
    return rows._replace(X=rows.X.to_numpy()) if hasattr(rows.X, "to_numpy") else rows


class _Unnamed(RowSlices):
    """Slices of arrays in the place of slices of DataFrames."""

    def __init__(self, rows: RowSlices):
        self.rows = rows

    def slices(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        for X, y in self.rows.slices(start):
            yield X.to_numpy() if hasattr(X, "to_numpy") else X, y


def _told(read: Callable[[Path], Any], file: Path, argument: str) -> Any:
    """What a file holds; errors of readers name the file."""
    try:
        return read(file)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{argument}: {file.name} cannot be read: {error}. Give a table with a header."
        ) from error


def _read_table(file: Path) -> Any:
    pd = import_optional("pandas", "the command line, for tables,")
    options = {"lines": True} if file.suffix == ".jsonl" else {}
    if file.suffix == ".parquet":
        import_optional("pyarrow", "the command line, for parquet files,")
    return getattr(pd, READERS[file.suffix])(file, **options)


def _read_arrays(file: Path) -> Rows:
    if not zipfile.is_zipfile(file):
        raise ValueError("it was not written by numpy.savez")
    with np.load(file, allow_pickle=False) as arrays:
        if "X" not in arrays:
            raise ValueError(
                f"it holds {', '.join(arrays)}; needed is an array X, and y for the targets."
            )
        return Rows(arrays["X"], arrays.get("y"))


def write_table(table: Any, path: str | None) -> None:
    """Write a DataFrame to a file, or print it.

    Parameters
    ----------
    table : DataFrame
    path : str or None
        A ``.csv``, ``.parquet`` or ``.jsonl`` file; None prints CSV.

    Raises
    ------
    ValueError
        If the file is of another kind.
    """
    if path is None:
        table.to_csv(sys.stdout, index=False)
    elif path.endswith(".csv"):
        table.to_csv(path, index=False)
    elif path.endswith(".parquet"):
        import_optional("pyarrow", "the command line, for parquet files,")
        table.to_parquet(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)


def check_written(path: str | None) -> None:
    """Refuse a path that :func:`write_table` cannot write, before work begins.

    Parameters
    ----------
    path : str or None

    Raises
    ------
    ValueError
        If the file is of another kind, or its folder does not exist.
    """
    if path is None:
        return
    if Path(path).suffix not in READERS:
        raise ValueError(
            f"--to: got {path!r}; accepted are files that end in {', '.join(READERS)}."
        )
    check_folder(path)


def check_folder(path: str) -> None:
    """Refuse a file in a folder that does not exist.

    Parameters
    ----------
    path : str

    Raises
    ------
    ValueError
    """
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise ValueError(f"--to: the folder {str(folder)!r} does not exist; make it first.")
