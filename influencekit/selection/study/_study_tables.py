"""Tables of a sensitivity study: all cells, the best ones, and how much each axis matters."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.metrics._correlation import summarize
from influencekit.selection.study._study_grid import Cell, Entry, same_value
from influencekit.utils._optional import import_optional

__all__ = ["CALLER", "best_rows", "results_table", "sensitivity_table"]


#: Subject of the message if pandas is not installed.
CALLER = "SensitivityStudy gives its results as a DataFrame and"


def results_table(entries: list[Entry], results: list, correlation: str) -> Any:
    """Tidy DataFrame with a row for each cell, in the order of the grids."""
    pd = import_optional("pandas", CALLER)
    axes = list(dict.fromkeys(axis for entry in entries for axis in entry.axes))
    cells = [cell for entry in entries for cell in entry.cells]
    columns: dict[str, Any] = {"attributor": [cell.entry.name for cell in cells]}
    for axis in axes:
        columns[axis] = _column(pd, [cell.values.get(axis, np.nan) for cell in cells])
    measured = [summarize(result.per_query, correlation) for result in results]
    columns |= {
        "lds": [one.mean for one in measured],
        "lds_se": [one.standard_error for one in measured],
        "n_undefined": [
            0 if r.error else m.n_undefined for r, m in zip(results, measured, strict=True)
        ],
        "damping_": [result.damping for result in results],
        "xi": [result.xi for result in results],
        "default": [cell.is_default for cell in cells],
        "seconds": [result.seconds for result in results],
        "error": [result.error for result in results],
    }
    return pd.DataFrame(columns)


def _column(pd: Any, values: list) -> Any:
    """Numbers as numbers; anything else unchanged, so that None stays None."""
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    absent = any(v is np.nan for v in values)
    if numbers and not (absent and any(isinstance(v, int) for v in values)):
        return pd.Series(values)
    return _objects(pd, values)


def _objects(pd: Any, values: list) -> Any:
    column = pd.Series([None] * len(values), dtype=object)
    for i, value in enumerate(values):
        column.iat[i] = value
    return column


def best_rows(entries: list[Entry], lds: np.ndarray) -> dict[str, int]:
    """Row with the highest LDS of each attributor; those without an LDS are left out."""
    best, start = {}, 0
    for entry in entries:
        own = lds[start : start + len(entry.cells)]
        if not np.isnan(own).all():
            best[entry.name] = start + int(np.nanargmax(own))
        start += len(entry.cells)
    return best


def sensitivity_table(entries: list[Entry], per_query: np.ndarray, lds: np.ndarray) -> Any:
    """Range of the LDS over each axis, with the other axes fixed, and with them tuned again."""
    pd = import_optional("pandas", CALLER)
    rows, start = [], 0
    for entry in entries:
        own = slice(start, start + len(entry.cells))
        start += len(entry.cells)
        for axis in entry.axes:
            facts = _sensitivity(entry.cells, axis, lds[own], per_query[own])
            if facts is None:
                continue
            rows.append({"attributor": entry.name, "parameter": axis, **facts})
    names = ["attributor", "parameter", "n_values", "best", "worst", "range", "range_se"]
    names += ["relative_range", "range_tuned", "relative_range_tuned"]
    table = pd.DataFrame(rows, columns=names)
    for name in ("best", "worst"):  # of any type; None stays None
        table[name] = _objects(pd, [row.get(name) for row in rows])
    return table


def _sensitivity(
    cells: list[Cell], axis: str, lds: np.ndarray, per_query: np.ndarray
) -> dict[str, Any] | None:
    """Facts about one axis; None if it has only one value."""
    lines = _longest_lines(cells, axis)
    if len(lines[0]) < 2:
        return None
    lines = [[i for i in line if not np.isnan(lds[i])] for line in lines]
    lines = [line for line in lines if line]
    if not lines:
        return {"n_values": 0}
    line = max(lines, key=lambda line: max(lds[i] for i in line))
    top, bottom = max(line, key=lambda i: lds[i]), min(line, key=lambda i: lds[i])
    tuned: list[tuple[Any, float]] = []  # highest LDS at each value of the axis
    for i in sorted((i for line in lines for i in line), key=lambda i: -lds[i]):
        value = cells[i].values[axis]
        if not any(same_value(value, seen) for seen, _ in tuned):
            tuned.append((value, lds[i]))
    difference, difference_tuned = lds[top] - lds[bottom], tuned[0][1] - tuned[-1][1]
    scale = lds[top] if lds[top] > 0 else np.nan
    return {
        "n_values": len(tuned),
        "best": cells[top].values[axis],
        "worst": cells[bottom].values[axis],
        "range": difference,
        "range_se": summarize(per_query[top] - per_query[bottom], "").standard_error,
        "relative_range": difference / scale,
        "range_tuned": difference_tuned,
        "relative_range_tuned": difference_tuned / scale,
    }


def _longest_lines(cells: list[Cell], axis: str) -> list[list[int]]:
    """Lines of cells that differ in only one axis; those with the most values of it."""
    lines: list[list[int]] = []
    for i, cell in enumerate(cells):
        others = [name for name in cell.entry.axes if name != axis]
        for line in lines:
            first = cells[line[0]]
            if all(same_value(cell.values[name], first.values[name]) for name in others):
                line.append(i)
                break
        else:
            lines.append([i])
    longest = max(len(line) for line in lines)
    return [line for line in lines if len(line) == longest]
