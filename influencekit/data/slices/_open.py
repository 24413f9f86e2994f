"""One function that makes slices of files and libraries' own data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from influencekit.data.slices._npy import NpySlices
from influencekit.data.slices._others import DaskSlices, HuggingFaceSlices
from influencekit.data.slices._parquet import ParquetSlices
from influencekit.data.slices._row_slices import RowSlices
from influencekit.utils._optional import import_optional

__all__ = ["open_slices"]

#: Rows of a slice where nothing is said.
SLICE_ROWS = 65_536


def open_slices(
    data: Any,
    *,
    target: Any = None,
    columns: Sequence[str] | None = None,
    slice_rows: int = SLICE_ROWS,
) -> RowSlices:
    """Examples that need not fit the memory, for ``fit`` in the place of ``X`` and ``y``.

    Parameters
    ----------
    data : path-like or object
        - a ``.parquet`` file, or a folder of such files (needs pyarrow), or a ``pyarrow.dataset``;
        - a folder of ``.npy`` files, ``X*.npy``, each with a ``y*.npy`` of the same name or all
          without, which are mapped, in the order of the numbers in their names;
        - a Hugging Face Dataset, or the folder that its ``save_to_disk`` wrote;
        - a dask DataFrame or dask array, whose partitions are computed one at a time.
    target : str, dask array or Series, or None, default=None
        The column with the targets; for a dask array another one. Not needed for ``.npy`` files.
    columns : sequence of str or None, default=None
        Columns that the model takes, in its order; None is all others.
    slice_rows : int, default=65536
        Rows that are in memory at a time; partitions and ``.npy`` files stay as they are.

    Returns
    -------
    RowSlices

    Raises
    ------
    ValueError
        If there is no such file or column, or the data are of another kind.
    ImportError
        If a library that reads them is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from influencekit.data import open_slices
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(3):
    ...         np.save(pathlib.Path(folder) / f"X-{i}.npy", np.ones((4, 2)))
    ...         np.save(pathlib.Path(folder) / f"y-{i}.npy", np.arange(4))
    ...     [len(X) for X, y in open_slices(folder).slices(start=1)]
    [4, 4]
    """
    if not isinstance(slice_rows, Integral) or isinstance(slice_rows, bool) or slice_rows < 1:
        raise ValueError(f"slice_rows: got {slice_rows!r}; accepted is an int from 1.")
    columns = None if columns is None else list(columns)
    if isinstance(data, (str, os.PathLike)):
        return _of_path(Path(data), target, columns, int(slice_rows))
    kind = type(data).__module__.split(".")[0]
    if kind == "pyarrow" and hasattr(data, "get_fragments"):
        return ParquetSlices(data, target, columns, int(slice_rows))
    if kind in ("dask", "dask_expr"):
        return DaskSlices(data, target, columns)
    if kind == "datasets" and hasattr(data, "with_format"):
        return HuggingFaceSlices(data, target, columns, int(slice_rows))
    raise ValueError(
        f"data: got {type(data).__name__}; accepted are a path, a pyarrow.dataset, a dask "
        f"DataFrame or array, and a Hugging Face Dataset. For anything else write a class with "
        f"one method, slices(start=0), and give an object of it as X."
    )


def _of_path(path: Path, target: Any, columns: list[str] | None, slice_rows: int) -> RowSlices:
    if not path.exists():
        raise ValueError(f"data: there is no file or folder {str(path)!r}.")
    if path.is_file():
        if path.suffix != ".parquet":
            raise ValueError(
                f"data: got {path.name!r}; accepted are .parquet files, and folders of .parquet "
                f"or .npy files."
            )
        return ParquetSlices(path.resolve(), target, columns, slice_rows)
    if (path / "state.json").is_file():
        datasets = import_optional("datasets", "open_slices, for a Hugging Face dataset,")
        found = datasets.load_from_disk(str(path))
        return HuggingFaceSlices(found, target, columns, slice_rows)
    if (path / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(one.parent.name for one in path.glob("*/state.json")))
        raise ValueError(
            f"data: the folder {str(path)!r} holds several datasets ({splits}); accepted is the "
            f"folder of one of them."
        )
    if any(path.glob("*.npy")):
        return NpySlices(path.resolve(), target, columns)
    if any(path.rglob("*.parquet")):
        return ParquetSlices(path.resolve(), target, columns, slice_rows)
    raise ValueError(f"data: the folder {str(path)!r} holds no .parquet and no .npy files.")
