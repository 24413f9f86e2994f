"""Slices as a source of inputs: each is read, transformed and checked when it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.data._inputs import open_inputs
from influencekit.data._sources import ArraySource, Rows, Source
from influencekit.data._targets import given_twice
from influencekit.data.slices._row_slices import Survey, joined, mark_of, read_once, rows_of
from influencekit.models._task import Task
from influencekit.models.adapters._learned_from import same

__all__ = ["SliceSource", "open_source"]

#: Rows on which a Pipeline's steps are tried.
_TRIED = 2000


class SliceSource(Source):
    """Examples that are read from slices, and transformed as they are read.

    Parameters
    ----------
    task : Task
    found : Survey
    name : str
        The argument's name in messages.
    """

    def __init__(self, task: Task, found: Survey, name: str):
        self.task, self.rows, self.name = task, found.rows, name
        self.starts, self.digest, self.marks = found.starts, found.digest, found.marks
        self._reading = _Reading(found.rows, found.marks, name)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_reading"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        reading = _Reading(state["rows"], state["marks"], state["name"])
        vars(self).update(state, _reading=reading)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, rows: Rows) -> Any:
        return self.gathered(rows).read(slice(None))

    def gathered(self, rows: Rows) -> ArraySource:
        positions = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        order = np.argsort(positions, kind="stable")
        ahead = positions[order]
        numbers = np.searchsorted(self.starts, ahead, side="right") - 1
        parts = []
        for number in np.unique(numbers):
            own = ahead[numbers == number] - self.starts[number]
            X, _ = self._reading.slice(int(number))
            size = int(self.starts[number + 1] - self.starts[number])
            some = X if np.array_equal(own, np.arange(size)) else rows_of(X, own)
            parts.append(self._opened(some, int(number)))
        tree = parts[0] if len(parts) == 1 else joined(parts)
        if not np.array_equal(order, np.arange(len(order))):
            tree = rows_of(tree, np.argsort(order))
        return ArraySource(tree)

    def _opened(self, X: Any, number: int) -> Any:
        source = open_inputs(self.task, X, f"{self.name} (slice {number})")
        if source.tree is None:
            raise TypeError(
                f"{self.name}: slice {number} is a Dataset; accepted are slices of arrays, "
                f"DataFrames, sparse matrices or Tensors."
            )
        return source.tree


class _Reading:
    """The slice that was read last, and where its reader is."""

    def __init__(self, rows: Any, marks: list[str], name: str):
        self.rows, self.marks, self.name = rows, marks, name
        self.last: tuple[int, Any] = (-1, None)
        self.ahead: tuple[int, Any] = (-1, None)

    def slice(self, number: int) -> Any:
        """X and y of a slice."""
        known, pair = self.last
        if known == number:
            return pair
        following, reader = self.ahead
        self.ahead = (-1, None)  # two threads do not share a reader
        if following != number:
            reader = iter(self.rows.slices(number))
        pair = next(reader, None)
        if pair is None or mark_of(*pair) != self.marks[number]:
            raise ValueError(
                f"{self.name}: slice {number} {'is gone' if pair is None else 'has other rows'}, "
                f"compared with the first pass. Accepted are slices that stay as they are: "
                f"slices(start) of {type(self.rows).__name__} begins with the slice numbered "
                f"start, and yields the same rows at each call."
            )
        self.last, self.ahead = (number, pair), (number + 1, reader)
        return pair


def open_source(
    task: Task, X: Any, y: Any, name: str, y_name: str, learned: bool
) -> tuple[Source, Any]:
    """A source of inputs, and the targets if they come with it.

    Parameters
    ----------
    task : Task
    X, y : object
        Data as in :func:`make_examples`.
    name, y_name : str
        Names of the arguments in messages.
    learned : bool
        Whether the model learned from these rows.

    Returns
    -------
    source : Source
    y : object
    """
    X = read_once(X, name)
    if y is not None and X.y is not None:
        raise given_twice(name, y_name)
    if learned:
        _check_steps(task, X, name)
    return SliceSource(task, X, name), X.y if y is None else y


def _check_steps(task: Task, found: Survey, name: str) -> None:
    """Refuse steps that gave training rows other values than ``transform`` gives; or warn."""
    transform: Any = task.transform
    if not hasattr(transform, "of_training_rows"):
        return
    X, y = next(iter(found.rows.slices()))
    rows = np.arange(min(_TRIED, int(found.starts[1])))
    X, y = rows_of(X, rows), None if y is None else rows_of(y, rows)
    if not same(transform.of_training_rows(X, y), transform(X)):
        raise ValueError(
            f"{name}: got slices, but a step of {task.name} gives rows that it learns from other "
            f"values than transform does (as TargetEncoder), which needs all rows. Accepted "
            f"is the Pipeline's last step, on slices of the rows that it was fitted on."
        )
