"""Rows of the containers that displays accept, their features and their labels."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.utils._optional import import_optional

__all__ = [
    "NONE",
    "as_table",
    "check_rows",
    "examples_frame",
    "features",
    "label_line",
    "predicted_line",
    "take",
    "top",
]


#: Position of a cell without an example.
NONE = -1


def as_table(X: Any, name: str) -> Any:
    """A DataFrame or Series unchanged, anything else as an array with an axis of examples."""
    if hasattr(X, "iloc"):
        return X
    if hasattr(X, "tocsr"):
        raise ValueError(
            f"`{name}` is sparse; give something readable: the raw texts, a DataFrame, or a dense "
            f"array."
        )
    array = np.asarray(X)
    if array.ndim == 0:
        raise ValueError(f"`{name}` must hold examples along its first axis; got {X!r}.")
    return array


def take(X: Any, rows: NDArray) -> Any:
    """Rows of a table by position."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def features(X: Any, row: int) -> dict:
    """One row as a mapping from column to value."""
    if hasattr(X, "columns"):
        return dict(zip(X.columns, X.iloc[row], strict=True))
    values = X.iloc[row] if hasattr(X, "iloc") else X[row]
    if np.ndim(values) == 0:
        return {"example": values}
    return {f"x{i}": value for i, value in enumerate(np.ravel(values))}


def label_or_none(y: NDArray | None, row: int) -> Any:
    """Label of a row, None if labels are unknown."""
    return None if y is None else y[row]


def label_line(y: NDArray | None, row: int) -> str:
    """Second line of a caption: names unchanged, numbers after the word "label"."""
    if y is None:
        return ""
    label = y[row]
    if isinstance(label, Integral | np.bool_):
        return f"\nlabel {label}"
    return f"\ny = {_short(label)}" if isinstance(label, Real) else f"\n{_short(label)}"


def _short(label: Any) -> str:
    """A label or value in few letters."""
    if isinstance(label, Real) and not isinstance(label, Integral):
        return f"{label:.3g}"
    text = str(label)
    return text if len(text) <= 12 else text[:11] + "…"


def predicted_line(predicted: NDArray | None, probability: NDArray | None, row: int) -> str:
    """Last line of a test example's caption: what the model says, and how sure it is.

    Examples
    --------
    >>> predicted_line(np.array([3]), np.array([0.784]), 0).strip()
    'says 3 (78%)'
    """
    if predicted is None:
        return ""
    sure = "" if probability is None else f" ({probability[row]:.0%})"
    return f"\nsays {_short(predicted[row])}{sure}"


def check_rows(rows: ArrayLike | None, n_test: int) -> NDArray:
    """Positions of the test examples to show, given as such or as a mask; None: the first three."""
    if rows is None:
        return np.arange(min(3, n_test))
    positions = np.atleast_1d(np.asarray(rows))
    if positions.dtype == bool and positions.shape == (n_test,) and positions.any():
        return np.flatnonzero(positions)
    integral = positions.ndim == 1 and positions.size and positions.dtype.kind in "iu"
    if not integral or positions.min() < 0 or positions.max() >= n_test:
        raise ValueError(
            f"`rows` must be integer positions of test examples from 0 to {n_test - 1}, or a mask "
            f"of {n_test} booleans; got {reprlib.repr(rows)}."
        )
    return positions


def top(scores: NDArray, k: int) -> tuple[NDArray, NDArray]:
    """Positions and values of the k highest positive scores of each row.

    Equal scores are in row order; if fewer than k are positive, the rest is -1 and NaN.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(scores, order, axis=1)
    return np.where(values > 0, order, NONE), np.where(values > 0, values, np.nan)


def examples_frame(display: Any) -> Any:
    """Table of a TopExamplesDisplay, see its `to_frame`.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    pd = import_optional("pandas", "TopExamplesDisplay.to_frame")
    keys, facts, rows = zip(*_entries(display, missing=pd.NA), strict=True)
    index = pd.MultiIndex.from_tuples(keys, names=["test", "kind", "rank"])
    columns = ["train", "score", "label", "predicted", "probability"]
    table = pd.DataFrame(facts, columns=columns, index=index)
    if display.y_train is None and display.y_query is None:
        table = table.drop(columns="label")
    unknown = [name for name in columns[3:] if getattr(display, name) is None]
    table = table.drop(columns=unknown)
    return pd.concat([table, pd.DataFrame(rows, index=index)], axis=1)


def _entries(display: Any, missing: Any) -> Iterator[tuple]:
    """Key, facts and features of every example, the test example first."""
    labels = getattr(display.X_train, "index", range(len(display.X_train)))
    tests = getattr(display.X_query, "index", display.query_positions)
    sides = [
        ("proponent", display.proponents, display.proponent_scores),
        ("opponent", display.opponents, display.opponent_scores),
    ]
    for row, test in enumerate(tests):
        own = [label_or_none(v, row) for v in (display.predicted, display.probability)]
        facts = (missing, float("nan"), label_or_none(display.y_query, row), *own)
        yield (test, "test", 0), facts, features(display.X_query, row)
        for kind, positions, scores in sides:
            for rank, position in enumerate(positions[row]):
                if position != NONE:
                    label = label_or_none(display.y_train, position)
                    facts = (labels[position], scores[row, rank], label, None, None)
                    yield (test, kind, rank + 1), facts, features(display.X_train, position)
