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

    One column is an array; several are a DataFrame if all hold one number or text a row, else a
    dict of arrays.

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
        self.data, self.target, self.slice_rows = data.with_format("numpy"), target, slice_rows

    def slices(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield the slice with number ``start``, and each one after it."""
        for rows in list(chunks(len(self.data), 1, self.slice_rows))[start:]:
            found = self.data[rows]
            y = None if self.target is None else np.asarray(found[self.target])
            yield self._container({name: found[name] for name in self.columns}), y

    def _container(self, arrays: dict[str, Any]) -> Any:
        if len(arrays) == 1:
            return next(iter(arrays.values()))
        if any(np.ndim(array) > 1 for array in arrays.values()):
            return arrays
        return import_optional("pandas", "open_slices, for several columns,").DataFrame(arrays)
