"""Parquet files, by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from influencekit.data.slices._row_slices import RowSlices
from influencekit.data.slices._tables import chosen_columns, split_target
from influencekit.utils._optional import import_optional

__all__ = ["ParquetSlices"]


class ParquetSlices(RowSlices):
    """Runs of rows of each row group.

    Parameters
    ----------
    data : Path or pyarrow.dataset.Dataset
    target : str or None
    columns : list of str or None
    slice_rows : int
    """

    def __init__(self, data: Any, target: Any, columns: list[str] | None, slice_rows: int):
        self.data, self.target, self.slice_rows = data, target, slice_rows
        schema = self._dataset().schema
        names = [name for name in schema.names if not name.startswith("__index_level_")]
        self.columns = chosen_columns(names, target, columns)

    def _dataset(self) -> Any:
        library = import_optional("pyarrow.dataset", "open_slices, for parquet files,")
        if not isinstance(self.data, Path):
            return self.data
        path = self.data
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        return library.dataset([str(file) for file in files], format="parquet")

    def slices(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield the slice with number ``start``, and each one after it."""
        number = 0
        for group in self._groups():
            n = -(-group.count_rows() // self.slice_rows)
            if number + n > start:
                tables = self._tables(group)
                for _ in range(start - number):
                    next(tables)
                for table in tables:
                    yield split_target(table.to_pandas(ignore_metadata=True), self.target)
            number += n

    def _groups(self) -> Iterator[Any]:
        """Row groups of all files, in the order of the files."""
        for fragment in self._dataset().get_fragments():
            self._check(fragment)
            yield from fragment.split_by_row_group()

    def _check(self, fragment: Any) -> None:
        """Refuse a file that lacks a column."""
        wanted = [*self.columns, *([] if self.target is None else [self.target])]
        lacking = [name for name in wanted if name not in fragment.physical_schema.names]
        if lacking:
            raise ValueError(
                f"data: {getattr(fragment, 'path', 'a file')!r} has no column {lacking[0]!r}, "
                f"which the first file has; accepted are files with the same columns."
            )

    def _tables(self, group: Any) -> Iterator[Any]:
        """Runs of exactly ``slice_rows`` rows, the last one shorter."""
        arrow = import_optional("pyarrow", "open_slices, for parquet files,")
        library = import_optional("pyarrow.dataset", "open_slices, for parquet files,")
        options = library.ParquetFragmentScanOptions(pre_buffer=False)
        names = [*self.columns, *([] if self.target is None else [self.target])]
        batches = group.to_batches(
            columns=names, batch_size=self.slice_rows, batch_readahead=1, fragment_readahead=1,
            fragment_scan_options=options, use_threads=False,
        )  # fmt: skip
        held: list[Any] = []
        for batch in batches:
            held.append(batch)
            while sum(len(one) for one in held) >= self.slice_rows:
                table = arrow.Table.from_batches(held)
                yield table.slice(0, self.slice_rows)
                held = table.slice(self.slice_rows).to_batches()
        if sum(len(one) for one in held):
            yield arrow.Table.from_batches(held)
