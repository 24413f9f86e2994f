"""Where a figure of the docs comes from: each must be a number of its study's results."""

from __future__ import annotations

import bisect
import math
import re

from benchmarks.harness import results
from benchmarks.harness.pages import TABLE, Part, kept, tables_of

NUMBER = re.compile(r"(?<![\w.])[-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?(\s?%)?")
#: What is no result: commands, code, comments, addresses of links.
ASIDE = re.compile(r"`[^`]*`|^    .*$|<!--.*?-->|\]\([^)]*\)|```.*?```", re.MULTILINE | re.DOTALL)
#: Small counts ("two seeds" are words; "of 12" is a count that any grid has).
FREE = {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 100.0}


def figures(text: str) -> list[str]:
    """Numbers of a text as they are written, commands and code left out."""
    found = [match[0].strip() for match in NUMBER.finditer(ASIDE.sub(" ", text))]
    return [figure.rstrip(",") for figure in found]


def numbers_in(value) -> set[float]:
    """All numbers in a document, those inside words too."""
    if isinstance(value, dict):
        return set().union(*map(numbers_in, [*value.keys(), *value.values()]), set())
    if isinstance(value, list):
        return set().union(*map(numbers_in, value), set())
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, int | float):
        return {float(value)}
    return {abs(read(figure)) for figure in figures(str(value))}


def read(figure: str) -> float:
    digits = figure.replace(",", "").replace("−", "-").rstrip(" %")
    return float(digits)


def untraced(part: Part) -> list[str]:
    """Figures of a measured part that none of its studies has."""
    known: set[float] = set()
    for name in part.studies:
        document = kept(name)
        known |= numbers_in({k: v for k, v in document.items() if k != "machine"})
        for table in tables_of(document).values():
            known |= numbers_in([table.head, table.rows])
        known |= numbers_in(results.rows_of(document) if "cells" in document else [])
    values = sorted({abs(value) for value in known} | FREE)
    shown = figures(TABLE.sub(" ", part.text))
    return [f for f in shown if f not in part.limits and not _is_known(f, values)]


def _is_known(figure: str, values: list[float]) -> bool:
    """Whether a known number rounds to the figure; a share may be shown in per cent."""
    value, percent = abs(read(figure)), figure.endswith("%")
    digits = re.sub(r"e.*$", "", figure.replace(",", "").rstrip(" %"))
    decimals = len(digits.partition(".")[2])
    size = 10.0 ** (math.floor(math.log10(value)) if "e" in figure and value else 0)
    half = 0.5000001 * size * 10.0**-decimals
    tried = [(value, half), *([(value / 100, half / 100)] if percent else [])]
    return any(_near(values, v, h) for v, h in tried)


def _near(values: list[float], value: float, half: float) -> bool:
    i = bisect.bisect_left(values, value - half)
    return i < len(values) and values[i] <= value + half
