"""Numbers in the reprs of results."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["short_array"]


def short_array(values: ArrayLike) -> str:
    """Numbers on one line, to three digits, the middle of many left out.

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
