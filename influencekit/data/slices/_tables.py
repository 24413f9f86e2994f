"""Columns of tables: those that the model takes, and the targets."""

from __future__ import annotations

from typing import Any

from influencekit.utils._suggest import did_you_mean

__all__ = ["chosen_columns", "split_target"]


def chosen_columns(names: list[str], target: Any, columns: list[str] | None) -> list[str]:
    """Columns that the model takes.

    Raises
    ------
    ValueError
        If the target or a column is not there.
    """
    if target is not None and target not in names:
        raise ValueError(
            f"target: the table has no column {target!r}; it has {', '.join(map(str, names[:20]))}."
            f"{did_you_mean(str(target), names)}"
        )
    if columns is None:
        return [name for name in names if name != target]
    unknown = [name for name in columns if name not in names]
    if unknown or not columns or target in columns:
        raise ValueError(
            f"columns: got {columns!r}; accepted are columns of the table without the target, of "
            f"{', '.join(map(str, names[:20]))}."
        )
    return columns


def split_target(table: Any, target: str | None) -> tuple[Any, Any]:
    """A DataFrame without its column of targets, and that column."""
    if target is None:
        return table, None
    return table.drop(columns=target), table[target].to_numpy()
