"""Markdown tables of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Table:
    """Cells as text; the first columns stand to the left, the others to the right."""

    head: list[str]
    rows: list[list[str]]
    left: int = 1

    def markdown(self) -> str:
        rule = ["---"] * self.left + ["---:"] * (len(self.head) - self.left)
        return "\n".join("| " + " | ".join(line) + " |" for line in (self.head, rule, *self.rows))


def number(value: float | None) -> str:
    """Three figures, no exponent where it reads well without."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def short(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def mean_error(values, digits: int = 2, scale: float = 1.0) -> str:
    """Mean and standard error of the mean."""
    values = scale * np.array([v for v in values if v is not None], dtype=float)
    if not len(values):
        return "–"
    text = f"{values.mean():.{digits}f}"
    if len(values) > 1:
        text += f" ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}"
    return text


def pivot(
    rows: list[dict], index: tuple[str, ...], columns: tuple[str, ...], cell: Callable
) -> Table:
    """A line for each value of ``index``, a column for each of ``columns``."""
    lines = list(dict.fromkeys(tuple(str(row.get(k)) for k in index) for row in rows))
    heads = list(dict.fromkeys(tuple(str(row.get(k)) for k in columns) for row in rows))
    groups: dict = {}
    for row in rows:
        line, head = (tuple(str(row.get(k)) for k in keys) for keys in (index, columns))
        groups.setdefault((line, head), []).append(row)
    body = [
        [*line, *(cell(groups[line, head]) if (line, head) in groups else "–" for head in heads)]
        for line in lines
    ]
    return Table([*index, *(", ".join(head) for head in heads)], body, len(index))


def of(rows: list[dict], key: str) -> list:
    """Values of one key, where there are any."""
    return [row[key] for row in rows if row.get(key) is not None]
