"""Tables of a sensitivity study: every cell, the best ones, and how much each axis matters."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.metrics._result import summarise
from influencekit.selection._study_grid import Cell, Entry, same_value

__all__ = ["best_rows", "import_pandas", "results_table", "sensitivity_table"]


def import_pandas():
    """Return pandas, or say which extra to install.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "SensitivityStudy gives its results as a DataFrame and needs pandas, which is not "
            "installed. Install it with `pip install influencekit[pandas]`."
        ) from error
    return pd


def results_table(entries: list[Entry], results: list, method: str):
    """Tidy DataFrame, a row a cell in the order of the grids."""
    pd = import_pandas()
    axes = list(dict.fromkeys(axis for entry in entries for axis in entry.axes))
    cells = [cell for entry in entries for cell in entry.cells]
    columns: dict[str, Any] = {"attributor": [cell.entry.name for cell in cells]}
    for axis in axes:
        columns[axis] = _column(pd, [cell.values.get(axis, np.nan) for cell in cells])
    measured = [summarise(result.per_query, method) for result in results]
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


def _column(pd, values: list):
    """Numbers as numbers; anything else as it is, so that None stays None."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return pd.Series(values)
    column = pd.Series([None] * len(values), dtype=object)
    for i, value in enumerate(values):
        column.iat[i] = value
    return column


def best_rows(entries: list[Entry], lds: np.ndarray) -> dict[str, int]:
    """Row of the highest LDS of each attributor; those without any are left out."""
    best, start = {}, 0
    for entry in entries:
        own = lds[start : start + len(entry.cells)]
        if not np.isnan(own).all():
            best[entry.name] = start + int(np.nanargmax(own))
        start += len(entry.cells)
    return best


def sensitivity_table(entries: list[Entry], per_query: np.ndarray, lds: np.ndarray):
    """Range of the LDS over each axis, with the other axes fixed and with them tuned again."""
    pd = import_pandas()
    best, rows, start = best_rows(entries, lds), [], 0
    for entry in entries:
        own = slice(start, start + len(entry.cells))
        start += len(entry.cells)
        if entry.name not in best:
            continue
        top = best[entry.name] - own.start
        for axis in entry.axes:
            facts = _sensitivity(entry.cells, axis, top, lds[own], per_query[own])
            rows.append({"attributor": entry.name, "parameter": axis, **facts})
    names = ["attributor", "parameter", "n_values", "best", "worst", "range", "range_se"]
    names += ["relative_range", "range_tuned", "relative_range_tuned"]
    return pd.DataFrame(rows, columns=names)


def _sensitivity(
    cells: list[Cell], axis: str, top: int, lds: np.ndarray, per_query: np.ndarray
) -> dict[str, Any]:
    """Facts of one axis; ``top`` is the best cell."""
    best = cells[top]
    others = [name for name in best.entry.axes if name != axis]
    line = [
        i
        for i, cell in enumerate(cells)
        if not np.isnan(lds[i])
        and all(same_value(cell.values[name], best.values[name]) for name in others)
    ]
    bottom = min(line, key=lambda i: lds[i])
    tuned: list[tuple[Any, float]] = []  # best LDS at each value of the axis
    for i in np.argsort(-np.nan_to_num(lds, nan=-np.inf), kind="stable"):
        value = cells[i].values[axis]
        if not np.isnan(lds[i]) and not any(same_value(value, seen) for seen, _ in tuned):
            tuned.append((value, lds[i]))
    difference = lds[top] - lds[bottom]
    difference_tuned = tuned[0][1] - tuned[-1][1]
    scale = lds[top] if lds[top] > 0 else np.nan
    return {
        "n_values": len(tuned),
        "best": best.values[axis],
        "worst": cells[bottom].values[axis],
        "range": difference,
        "range_se": summarise(per_query[top] - per_query[bottom], "").standard_error,
        "relative_range": difference / scale,
        "range_tuned": difference_tuned,
        "relative_range_tuned": difference_tuned / scale,
    }
