"""Markdown tables of rows."""

from __future__ import annotations

import re
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
        lines = ("| " + " | ".join(line) + " |" for line in (self.head, rule, *self.rows))
        return with_zeros("\n".join(lines))


def with_zeros(text: str) -> str:
    """Numbers below one with a zero before their point, which older results lack."""
    return re.sub(r"(?<![\w.])\.(?=\d)", "0.", text)


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


def plain_loop(text: str, ours: float, plain: float, difference: str) -> Table:
    """One line of a job that has a plain counterpart."""
    head = ["job", "ours, s", "plain, s", "ratio", "largest difference"]
    return Table(head, [[text, number(ours), number(plain), number(plain / ours), difference]])


def of(rows: list[dict], key: str) -> list:
    """Values of one key, where there are any."""
    return [row[key] for row in rows if row.get(key) is not None]
