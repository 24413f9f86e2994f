"""Dask collections and Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from influencekit.data.slices._row_slices import RowSlices
from influencekit.data.slices._tables import chosen_columns, split_target
from influencekit.utils._long_work import chunks
from influencekit.utils._optional import import_optional

__all__ = ["DaskSlices", "HuggingFaceSlices"]


class DaskSlices(RowSlices):
    """Partitions of a dask DataFrame, or blocks of rows of a dask array.

    Parameters
    ----------
    data : dask DataFrame or array
    target : str, dask Series or array, or None
        With the same partitions as the data, if it is not a column.
    columns : list of str or None
    """

    def __init__(self, data: Any, target: Any, columns: list[str] | None):
        self.is_table = hasattr(data, "columns")
        named = self.is_table and (target is None or isinstance(target, str))
        if self.is_table:
            names = list(data.columns)
            self.columns = chosen_columns(names, target if named else None, columns)
            data = data[[*self.columns, *([target] if named and target else [])]]
        elif columns is not None:
            raise ValueError("columns: a dask array has none; leave it out.")
        self.data = data if self.is_table else data.rechunk(dict.fromkeys(range(1, data.ndim), -1))
        self.target = target if named else None
        self.apart = None if named else target
        if self.apart is not None and _n_parts(self.apart) != _n_parts(self.data):
            raise ValueError(
                f"target: got {_n_parts(self.apart)} partitions; accepted are as many as those of "
                f"the data, {_n_parts(self.data)}, with the same rows."
            )

    def slices(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield the slice with number ``start``, and each one after it."""
        for number in range(start, _n_parts(self.data)):
            X = _computed(self.data, number)
            if self.is_table and self.apart is None:
                yield split_target(X.reset_index(drop=True), self.target)
            else:
                y = None if self.apart is None else np.asarray(_computed(self.apart, number))
                yield X.reset_index(drop=True) if self.is_table else X, y


def _n_parts(data: Any) -> int:
    return data.npartitions if hasattr(data, "get_partition") else data.numblocks[0]


def _computed(data: Any, number: int) -> Any:
    part = data.get_partition(number) if hasattr(data, "get_partition") else data.blocks[number]
    return part.compute(scheduler="synchronous")  # a worker may not wait for other workers


class HuggingFaceSlices(RowSlices):
    """Runs of rows of a Hugging Face Dataset, which maps its files.

    Columns of one number or text a row are a DataFrame, as from a parquet file; one column of texts
    or of arrays is an array, and several with arrays are a dict of arrays.

    Parameters
    ----------
    data : datasets.Dataset
    target : str or None
    columns : list of str or None
    slice_rows : int
    """

    def __init__(self, data: Any, target: Any, columns: list[str] | None, slice_rows: int):
        if not hasattr(data, "column_names") or not isinstance(data.column_names, list):
            raise ValueError(
                f"data: got a {type(data).__name__}; accepted is one Dataset, such as "
                f"datasets['train']."
            )
        self.columns = chosen_columns(data.column_names, target, columns)
        self.data, self.target, self.slice_rows = data, target, slice_rows
        self.arrays = [name for name in self.columns if not _is_flat(data.features[name])]

    def slices(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield the slice with number ``start``, and each one after it."""
        for rows in list(chunks(len(self.data), 1, self.slice_rows))[start:]:
            y = None if self.target is None else self._array(self.target, rows)
            yield self._rows(rows), y

    def _rows(self, rows: slice) -> Any:
        first = self.columns[0]
        texts = getattr(self.data.features[first], "dtype", "") in ("string", "large_string")
        if len(self.columns) == 1 and (self.arrays or texts):
            return self._array(first, rows)
        if self.arrays:
            return {name: self._array(name, rows) for name in self.columns}
        import_optional("pandas", "open_slices, for several columns,")
        return self._table(rows, self.columns)

    def _table(self, rows: slice, names: list[str]) -> Any:
        return self.data.with_format("arrow", columns=names)[rows].select(names).to_pandas()

    def _array(self, name: str, rows: slice) -> Any:
        if _is_flat(self.data.features[name]):
            return self._table(rows, [name])[name].to_numpy()
        # its own dtype: the format alone would round float64 to float32
        options = _own_dtype(self.data.features[name])
        return self.data.with_format("numpy", columns=[name], **options)[rows][name]


def _is_flat(feature: Any) -> bool:
    """Whether a column holds one number or text a row."""
    return type(feature).__name__ in ("Value", "ClassLabel")


def _own_dtype(feature: Any) -> dict[str, Any]:
    while hasattr(feature, "feature"):
        feature = feature.feature
    try:
        return {"dtype": np.dtype(feature.dtype)}
    except (AttributeError, TypeError):  # pictures and the like
        return {}
