"""What a sensitivity study evaluates: attributors, their grids and cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from influencekit.base import BaseAttributor
from influencekit.groups._holders import check_held

__all__ = ["Cell", "Entry", "read_attributors", "same_value"]

#: Axes that are not parameters of the attributor.
SPECIAL = ("checkpoint", "n_models")


@dataclass(frozen=True, eq=False)
class Cell:
    """One point of one attributor's grid.

    Parameters
    ----------
    entry : Entry
    values : dict
        Value of every axis of the entry, including special ones.
    given : dict
        The attributor's parameters that the grid sets.
    """

    entry: Entry
    values: dict[str, Any]
    given: dict[str, Any]

    @property
    def is_default(self) -> bool:
        """Whether every value is the attributor's own."""
        return all(same_value(self.values[a], self.entry.defaults[a]) for a in self.entry.axes)


@dataclass(eq=False)
class Entry:
    """An attributor under its name, with its axes.

    Parameters
    ----------
    name : str
    attributor : attributor
    grids : list of dict
        Maps axes to lists of values.
    n_models : int
        Number of models that the study is fitted on, the default of that axis.
    """

    name: str
    attributor: Any
    grids: list[dict[str, list]]
    n_models: int = 1
    cells: list[Cell] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.axes = list(dict.fromkeys(axis for grid in self.grids for axis in grid))
        params = self.attributor.get_params()
        own = {"checkpoint": "final", "n_models": self.n_models}
        self.defaults = {a: own.get(a) if a in SPECIAL else params.get(a) for a in self.axes}
        for grid in self.grids:
            for values in product(*grid.values()):
                self._add(dict(zip(grid, values, strict=True)))

    def _add(self, chosen: dict[str, Any]) -> None:
        """Add a cell, unless another grid already has it."""
        values = {axis: chosen.get(axis, self.defaults[axis]) for axis in self.axes}
        for cell in self.cells:
            if all(same_value(values[axis], cell.values[axis]) for axis in self.axes):
                return
        given = {axis: value for axis, value in chosen.items() if axis not in SPECIAL}
        self.cells.append(Cell(self, values, given))


def same_value(a: Any, b: Any) -> bool:
    """Whether two values of a hyperparameter of any type are the same."""
    if a is b:
        return True
    if type(a) is not type(b) and not (_is_number(a) and _is_number(b)):
        return False
    if hasattr(a, "get_params"):
        return repr(a) == repr(b)
    return bool(np.all(a == b))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_attributors(attributors: Any, n_models: int, labels: list) -> list[Entry]:
    """Entries from any form of the study's ``attributors``.

    Parameters
    ----------
    attributors : attributor, pair, list or mapping
    n_models : int
    labels : list
        Checkpoints beside "final".

    Returns
    -------
    list of Entry

    Raises
    ------
    TypeError, ValueError
    """
    entries = []
    for name, item in _named(attributors):
        attributor, grid = item if _is_pair(item) else (item, {})
        if not isinstance(attributor, BaseAttributor):
            raise TypeError(
                f"attributors: {name!r} holds {type(attributor).__name__}; accepted is an "
                "attributor, or a pair (attributor, grid)."
            )
        check_held(attributor, "SensitivityStudy", "attributors")
        grids = _read_grids(name, grid)
        for one in grids:
            _check_axes(name, attributor, one, n_models, labels)
        entries.append(Entry(name, attributor, grids, n_models))
    return entries


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and not isinstance(item[1], BaseAttributor)


def _named(attributors: Any) -> list[tuple[str, Any]]:
    """Pairs of name and item; items without a name use the class name."""
    if isinstance(attributors, Mapping):
        if not attributors or not all(isinstance(name, str) for name in attributors):
            raise ValueError(
                f"attributors: got the names {list(attributors)}; accepted is a dict of at least "
                f"one attributor, with strings as names."
            )
        return list(attributors.items())
    single = _is_pair(attributors) or not isinstance(attributors, (list, tuple))
    items = [attributors] if single else list(attributors)
    if not items:
        raise ValueError("attributors: got none; accepted is at least one attributor.")
    names = [type(item[0] if _is_pair(item) else item).__name__ for item in items]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if names.count(name) > 1:
            names[i] = f"{name} {seen[name]}"
    return list(zip(names, items, strict=True))


def _read_grids(name: str, grid: Any) -> list[dict[str, list]]:
    """Grids as lists of plain Python values, as in scikit-learn: a dict or a list of dicts."""
    try:
        ParameterGrid(grid)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"attributors: the grid of {name!r} is {grid!r}; accepted is a dict from parameter to "
            f"a list of values, or a list of such dicts ({error})"
        ) from error
    grids = [grid] if isinstance(grid, Mapping) else list(grid)
    return [{axis: [_plain(v) for v in values] for axis, values in g.items()} for g in grids]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_axes(
    name: str, attributor: Any, grid: dict[str, list], n_models: int, labels: list
) -> None:
    """Refuse axes and values that cannot be used."""
    for axis, values in grid.items():
        if axis.split("__")[-1] == "output":
            raise ValueError(
                f"attributors: {name!r} varies {axis!r}, which sets the output that is measured "
                f"on the retrained models, so it cannot be compared by that measure. Study each "
                f"output separately."
            )
        if axis == "checkpoint":
            _check_checkpoints(name, values, labels)
        elif axis == "n_models":
            _check_n_models(name, values, n_models)
    params = [axis for axis in grid if axis not in SPECIAL]
    for chosen in product(*(grid[axis] for axis in params)):
        try:
            clone(attributor).set_params(**dict(zip(params, chosen, strict=True)))
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"attributors: the grid of {name!r} cannot be set: {error} Further axes are "
                f"{list(SPECIAL)}."
            ) from error


def _check_checkpoints(name: str, values: list, labels: list) -> None:
    for value in values:
        for label in value if isinstance(value, tuple) else (value,):
            if label != "final" and label not in labels:
                raise ValueError(
                    f"attributors: {name!r} needs the checkpoint {label!r}; there are "
                    f"{[*labels, 'final']}. Give checkpoints to fit, or training_epochs to the "
                    "study."
                )


def _check_n_models(name: str, values: list, n_models: int) -> None:
    for value in values:
        if not _is_number(value) or value != int(value) or not 1 <= value <= n_models:
            raise ValueError(
                f"attributors: {name!r} needs n_models={value!r}; fit was given {n_models} "
                f"model(s), so accepted are integers from 1 to {n_models}. Give a list of models "
                f"trained on the same data with different seeds."
            )
