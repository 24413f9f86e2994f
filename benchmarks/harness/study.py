"""What a study is: a question, a grid of cells, and a function that makes rows of a cell."""

from __future__ import annotations

import importlib
import itertools
import logging
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

FULL, SMALL, QUICK = "full", "small", "quick"


@dataclass(frozen=True)
class Size:
    """What a smaller run changes: a grid of its own, and some settings."""

    grid: dict | list[dict] | None = None
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """One question, as it is measured.

    Parameters
    ----------
    doc : str
        Its first line is the question.
    row : callable
        ``row(**cell, **settings)`` gives a dict, or a list of dicts, of JSON's types.
    grid : dict or list of dict
        Axes with their values; a list is the union of several grids.  A cell is one
        combination, and what is run, kept and resumed as a whole.
    settings : dict
        Numbers that all cells share.
    quick, small : Size
        Quick runs are for tests, of seconds; small ones belong to ``make bench``.
    tables : callable or None
        ``tables(rows)`` gives the tables of the docs by name; a row holds its cell too.
    key : str or callable
        Name of a cell: a format string of its axes, or a function of it.  By default axes and
        values in a line.
    fresh : bool
        Whether each cell has a process of its own.
    limit : float or None
        Seconds of a cell in a process of its own, from the moment at which it is ready.
    environment : str, callable or None
        Environment of a cell, one of those that ``python -m benchmarks peers`` makes; or a
        function of the cell.
    needs : tuple of str
        Files below INFLUENCEKIT_DATA.
    repeats : int
        Runs of each cell; the shortest counts.
    shows_failures : bool
        Whether ``tables`` is given cells without a result too, as rows with "failed".
    """

    doc: str
    row: Callable
    grid: dict | list[dict]
    settings: dict = field(default_factory=dict)
    quick: Size = Size()
    small: Size | None = None
    tables: Callable | None = None
    key: str | Callable = ""
    fresh: bool = False
    limit: float | None = None
    environment: str | Callable | None = None
    needs: tuple[str, ...] = ()
    repeats: int = 1
    shows_failures: bool = False

    @property
    def name(self) -> str:
        return self.row.__module__.rpartition(".")[2]

    @property
    def question(self) -> str:
        return self.doc.strip().splitlines()[0]

    def settings_at(self, size: str, changes: dict | None = None) -> dict:
        """Settings of a size; changes must name some of them."""
        chosen = self._size(size)
        unknown = set(changes or {}) - set(self.settings)
        if unknown:
            raise SystemExit(
                f"{self.name} has no setting {sorted(unknown)}; it has {sorted(self.settings)}."
            )
        return {**self.settings, **(chosen.settings if chosen else {}), **(changes or {})}

    def cells(self, size: str, only: dict | None = None) -> list[dict]:
        """Cells of a size in order; ``only`` chooses an axis's values, new ones for every grid."""
        chosen = self._size(size)
        grids = self.grid if chosen is None or chosen.grid is None else chosen.grid
        grids = [grids] if isinstance(grids, dict) else grids
        axes = {axis for grid in grids for axis in grid}
        unknown = set(only or {}) - axes
        if unknown:
            raise SystemExit(f"{self.name} has no axis {sorted(unknown)}; it has {sorted(axes)}.")
        known = {axis: [v for g in grids for v in g.get(axis, [])] for axis in axes}
        found = []
        for grid in grids:
            values = {axis: list(own) for axis, own in grid.items()}
            for axis in values.keys() & (only or {}).keys():
                values[axis] = [v for v in only[axis] if v in grid[axis] or v not in known[axis]]
            cells = [dict(zip(values, v, strict=True)) for v in itertools.product(*values.values())]
            found += [cell for cell in cells if cell not in found]
        return found

    def key_of(self, cell: dict) -> str:
        if callable(self.key):
            return self.key(cell)
        if self.key:
            return self.key.format(**cell)
        return ", ".join(f"{axis}={value}" for axis, value in cell.items())

    def rows_of(self, cell: dict, settings: dict) -> list[dict]:
        silenced = logging.root.manager.disable
        try:
            found = self.row(**cell, **settings)
        finally:
            logging.disable(silenced)  # a study may silence what a peer prints
        return [found] if isinstance(found, dict) else list(found)

    def lacking(self, found: dict) -> list[str]:
        """Cells that are not done; of studies that show failures those that were not tried."""
        done = [k for k, cell in found.items() if cell["status"] == "ok" or self.shows_failures]
        return [key for key in map(self.key_of, self.cells(FULL)) if key not in done]

    def environment_of(self, cell: dict) -> str | None:
        return self.environment(cell) if callable(self.environment) else self.environment

    def _size(self, size: str) -> Size | None:
        return {FULL: None, SMALL: self.small, QUICK: self.quick}[size]


def names() -> list[str]:
    """Of all studies, in alphabetical order."""
    package = importlib.import_module("benchmarks.studies")
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__))


def load(name: str) -> Study:
    """A study by its name."""
    if name not in names():
        raise SystemExit(f"There is no study {name!r}. There are: {', '.join(names())}.")
    return importlib.import_module(f"benchmarks.studies.{name}").STUDY
