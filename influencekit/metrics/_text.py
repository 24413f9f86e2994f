"""Numbers in the reprs of results."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["not_finite_text", "short_array", "some_rows"]


def short_array(values: ArrayLike) -> str:
    """Numbers on one line with three digits; the middle of a long array is left out.

    Parameters
    ----------
    values : array-like of shape (n,)

    Returns
    -------
    str

    Examples
    --------
    >>> short_array([0.12345, 1.0, 2e-7])
    '[0.123, 1, 2e-07]'
    >>> short_array(range(1000))
    '[0, 1, 2, ..., 997, 998, 999]'
    """
    numbers = np.asarray(values).tolist()
    texts = [str(x) if isinstance(x, int) else f"{x:.3g}" for x in numbers]
    if len(texts) > 10:
        texts[3:-3] = ["..."]
    return f"[{', '.join(texts)}]"


def some_rows(rows: ArrayLike) -> str:
    """Row numbers for a message: the first five, and how many more there are.

    Parameters
    ----------
    rows : array-like of int of shape (n,)

    Returns
    -------
    str

    Examples
    --------
    >>> some_rows([3, 7])
    '3, 7'
    >>> some_rows(range(100))
    '0, 1, 2, 3, 4 and 95 more'
    """
    numbers = np.asarray(rows).tolist()
    shown = ", ".join(str(n) for n in numbers[:5])
    return shown if len(numbers) <= 5 else f"{shown} and {len(numbers) - 5:,} more"


def not_finite_text(*tables: ArrayLike) -> str:
    """End of a result's repr: how many numbers in it are NaN or infinite, if any.

    Parameters
    ----------
    *tables : array-like

    Returns
    -------
    str
        The text, empty if all are finite.

    Examples
    --------
    >>> not_finite_text([1.0, float("nan")], [2.0])
    ', not_finite=1'
    >>> not_finite_text([1.0])
    ''
    """
    count = sum(int((~np.isfinite(np.asarray(table))).sum()) for table in tables)
    return f", not_finite={count}" if count else ""
