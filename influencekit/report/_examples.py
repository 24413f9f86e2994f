"""The examples as shown to a reader: images, texts or rows of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from influencekit.displays.examples._images import as_images
from influencekit.displays.examples._rows import as_table, take
from influencekit.report._pictures import image_address
from influencekit.report._text import plain, shorten
from influencekit.utils._suggest import did_you_mean

__all__ = ["Contents", "contents", "readable", "row_name"]

#: Default number of columns shown, and number of characters shown of a text.
_MOST_FEATURES, _MOST_CHARACTERS = 30, 1500


@dataclass(frozen=True)
class Contents:
    """What is shown for some examples.

    Attributes
    ----------
    kind : {"image", "text", "table", "none"}
    train : dict of int to object
        By position: a data URL, a text, or a list of values.
    test : list of object
        The same for the test examples, in order.
    features : list of str
        Names of the values in a table.
    n_features : int
        Total number of features.
    """

    kind: str
    train: dict[int, Any]
    test: list[Any]
    features: list[str]
    n_features: int = 0


def readable(X: Any, name: str, n_rows: int) -> Any:
    """A DataFrame, Series or array with one row for each example, or a clear error.

    Parameters
    ----------
    X : DataFrame, Series, array-like, Tensor, list of str or None
        None if the examples are not shown.
    name : str
    n_rows : int
        Required number of examples.

    Returns
    -------
    DataFrame, Series or ndarray

    Raises
    ------
    TypeError
        If its type cannot be shown.
    ValueError
        If it is sparse or of another length.
    """
    if X is None:
        return np.empty((n_rows, 0))
    if not (hasattr(X, "iloc") or hasattr(X, "__array__") or hasattr(X, "tocsr")) and not (
        isinstance(X, Sequence) and not isinstance(X, (str, bytes, tuple))
    ):
        raise TypeError(
            f"{name}: got {type(X).__name__}, which a page cannot show. Accepted are a DataFrame, "
            f"an array, or a list of texts. For other inputs, give something readable as "
            f"examples=(train, test)."
        )
    if isinstance(X, Tensor):
        X = X.detach().cpu().numpy()
    if isinstance(X, Sequence) and any(isinstance(row, str) for row in X):
        texts = np.empty(len(X), dtype=object)  # a fixed width would be the longest text's
        texts[:] = X
        X = texts
    table = as_table(X, name)
    if len(table) != n_rows:
        raise ValueError(
            f"{name}: got {len(table):,} examples; accepted are {n_rows:,}, one for each that the "
            "attributor knows, in the same order."
        )
    return table


def contents(
    train: Any,
    test: Any,
    used: NDArray,
    image_shape: tuple[int, ...] | None,
    features: Sequence[Any] | None,
) -> Contents:
    """Prepare what is shown for the examples that are used.

    Parameters
    ----------
    train, test : DataFrame, Series or ndarray
        All training examples, and the test examples shown.
    used : ndarray of int
        Positions of the training examples shown, each once.
    image_shape : tuple of int or None
    features : sequence or None
        Names of the columns to show, in order.

    Returns
    -------
    Contents
    """
    kind, some = _kind(train, image_shape), take(train, used)
    if features is not None and kind != "table":
        raise ValueError(
            f"features: got {features!r}, columns of a table, but the examples are of kind "
            f"{kind!r}; leave it out."
        )
    if kind == "image":
        return _images(some, test, used, image_shape)
    if kind == "text":
        return Contents(kind, _by_position(used, _texts(some)), _texts(test), [])
    names = _column_names(train)
    columns = _chosen(names, features)
    rows = _by_position(used, _values(some, columns))
    shown = [plain(names[i]) for i in columns]
    return Contents(kind, rows, _values(test, columns), shown, len(names))


def row_name(index: Any, position: int) -> str | None:
    """Label of a row, if it says more than the position."""
    if index is None or str(index[position]) == str(position):
        return None
    return plain(index[position])


def _kind(table: Any, image_shape: tuple[int, ...] | None) -> str:
    if image_shape is not None or (not hasattr(table, "iloc") and table.ndim > 2):
        return "image"
    if np.ndim(table) == 2:
        return "table" if table.shape[1] else "none"
    some = take(table, np.arange(min(20, len(table))))
    return "text" if any(isinstance(value, str) for value in some) else "table"


def _images(train: Any, test: Any, used: Any, image_shape: tuple[int, ...] | None) -> Contents:
    try:
        images = as_images(train, test, image_shape)
    except ValueError as error:
        raise ValueError(
            f"{error} In a report, arrays of more than two axes are images; flatten them for "
            f"tables, or give something readable as examples=(train, test)."
        ) from error
    rows = [image_address(image, images) for image in images.train]
    return Contents(
        "image", _by_position(used, rows), [image_address(i, images) for i in images.test], []
    )


def _texts(column: Any) -> list[str]:
    return [shorten(str(text), _MOST_CHARACTERS) for text in column]


def _by_position(used: NDArray, rows: Sequence[Any]) -> dict[int, Any]:
    return dict(zip(used.tolist(), rows, strict=True))


def _column_names(table: Any) -> list[Any]:
    if hasattr(table, "columns"):
        return list(table.columns)
    return ["example"] if np.ndim(table) == 1 else [f"x{i}" for i in range(table.shape[1])]


def _values(table: Any, columns: Sequence[int]) -> list[list[str]]:
    """Rows of a table as texts; each column is formatted by its own type."""
    if np.ndim(table) == 1:
        return [[plain(value)] for value in table]
    by_column = [table.iloc[:, i] if hasattr(table, "iloc") else table[:, i] for i in columns]
    return [[plain(value) for value in row] for row in zip(*by_column, strict=True)] or [
        [] for _ in range(len(table))
    ]


def _chosen(names: list[Any], features: Sequence[Any] | None) -> list[int]:
    if features is None:
        return list(range(min(len(names), _MOST_FEATURES)))
    if isinstance(features, (str, Mapping)) or not len(features):
        raise ValueError(f"features: got {features!r}; accepted is a list of column names.")
    unknown = [name for name in features if name not in names]
    if unknown:
        raise ValueError(
            f"features: {unknown[:5]} are not columns; accepted are {names[:10]}"
            + (" and others." if len(names) > 10 else ".")
            + did_you_mean(unknown[0], names)
        )
    return [names.index(name) for name in features]
