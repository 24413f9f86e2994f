"""Missing numbers of pandas' own dtypes, which older versions keep as objects."""

from __future__ import annotations

import numpy as np

__all__ = ["as_floats"]


def as_floats(values: np.ndarray) -> np.ndarray:
    """Numbers among which some are ``<NA>`` as floats with NaN; all other arrays unchanged.

    So says pandas from version 2.2 on; before, such a column is an array of objects.

    Parameters
    ----------
    values : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (n,)
    """
    if values.dtype != object or values.ndim != 1:
        return values
    listed = values.tolist()
    missing = [type(value).__name__ == "NAType" for value in listed]
    numbers = (int, float, np.number, np.bool_)
    known = (isinstance(v, numbers) for v, gone in zip(listed, missing, strict=True) if not gone)
    if not any(missing) or not all(known):
        return values
    pairs = zip(listed, missing, strict=True)
    return np.array([np.nan if gone else value for value, gone in pairs], dtype=np.float64)
