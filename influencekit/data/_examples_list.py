"""The same examples as each of several models reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from influencekit.data._examples import Examples, make_examples
from influencekit.models import Task, TaskList

__all__ = ["ExamplesList", "each", "open_examples"]


class ExamplesList(tuple):
    """Examples of several models, one for each, of the same rows.

    Models may have preprocessing of their own (fitted Pipelines), so each reads the data
    itself.  Rows, targets and labels are the same for all.

    Parameters
    ----------
    iterable : iterable of Examples
        One for each model; made by :func:`open_examples`.
    """

    def __repr__(self) -> str:
        return f"ExamplesList(n_models={len(self)}, first={self[0]!r})"

    @property
    def n_examples(self) -> int:
        """Number of examples."""
        return len(self[0])

    @property
    def targets(self):
        """Targets as the first model encodes them."""
        return self[0].targets

    @property
    def index(self):
        """Row labels."""
        return self[0].index

    def take(self, rows: Any) -> ExamplesList:
        """Some of the examples, for every model.

        Parameters
        ----------
        rows : slice, int array-like or bool mask of shape (n_examples,)

        Returns
        -------
        ExamplesList
        """
        return ExamplesList(examples.take(rows) for examples in self)


def open_examples(
    task: Task | TaskList, X: Any, y: Any = None, *, require_y: bool = True, name: str = "X"
) -> Examples | ExamplesList:
    """Read data as the examples of one model, or of each of several.

    Parameters
    ----------
    task : Task or TaskList
    X, y, require_y, name
        As :func:`make_examples` takes them.

    Returns
    -------
    Examples or ExamplesList
    """
    if isinstance(task, Task):
        if isinstance(X, ExamplesList):
            raise TypeError(f"{name}: holds the examples of {len(X)} models; the task is one.")
        return make_examples(task, X, y, require_y=require_y, name=name)
    if isinstance(X, ExamplesList):
        return X
    if isinstance(X, Examples):
        raise TypeError(f"{name}: got Examples of one model, but there are {len(task)}.")
    return ExamplesList(make_examples(t, X, y, require_y=require_y, name=name) for t in task)


def each(one_or_several: Any) -> Sequence[Any]:
    """A Task or Examples as a list of one; a TaskList or ExamplesList as it is.

    Parameters
    ----------
    one_or_several : Task, TaskList, Examples or ExamplesList

    Returns
    -------
    sequence of Task or of Examples
    """
    several = isinstance(one_or_several, (TaskList, ExamplesList))
    return one_or_several if several else [one_or_several]
