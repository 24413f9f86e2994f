"""Checks of the arrays that every metric takes, with errors that name the argument."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.utils._arguments import real_array, refuse_masked

__all__ = ["check_finite", "check_masks", "check_outputs", "check_same_shape"]


def check_finite(values: ArrayLike, name: str, ndim: int | tuple[int, ...], axes: str) -> NDArray:
    """Float64 array of the given number of axes, without NaN or infinity.

    Parameters
    ----------
    values : array-like
    name : str
        Name of the argument, for the messages.
    ndim : int or tuple of int
        Accepted numbers of axes.
    axes : str
        The accepted shapes in words, for the messages.

    Raises
    ------
    ValueError
        If it is not numeric, has another number of axes, is empty, or holds NaN or infinity.
    """
    array = real_array(name, values, axes)
    accepted = (ndim,) if isinstance(ndim, int) else ndim
    if array.ndim not in accepted or array.size == 0:
        raise ValueError(f"`{name}` must have shape {axes}, none of them 0; got {array.shape}.")
    n_bad = int(array.size - np.isfinite(array).sum())
    if n_bad:
        raise ValueError(
            f"`{name}` holds {n_bad} NaN or infinite values of {array.size}, at "
            f"{_first_positions(array)}. Leave those subsets or queries out, or find the diverged "
            f"training run (SubsetOutputs.diverged), and call again."
        )
    return array


def _first_positions(array: NDArray) -> str:
    """Up to three positions that are not finite, for a message."""
    bad = np.flatnonzero(~np.isfinite(array))
    found = [str(tuple(int(i) for i in np.unravel_index(b, array.shape))) for b in bad[:3]]
    return ", ".join(found) + (", ..." if len(bad) > 3 else "")


def check_outputs(outputs: ArrayLike, name: str = "outputs") -> NDArray:
    """Outputs as (n_subsets, n_repeats, n_query); a missing axis of repeats becomes 1."""
    axes = "(n_subsets, n_query) or (n_subsets, n_repeats, n_query)"
    array = check_finite(outputs, name, (2, 3), axes)
    if len(array) < 3:
        raise ValueError(f"`{name}` has {len(array)} subsets; a correlation needs at least 3.")
    return array[:, None, :] if array.ndim == 2 else array


def check_masks(masks: ArrayLike, n_subsets: int | None = None) -> NDArray:
    """Boolean membership masks (n_subsets, n_train) from booleans or zeros and ones."""
    refuse_masked("masks", masks)
    given = np.asarray(masks)
    array = given if given.dtype == np.bool_ else real_array("masks", masks)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"`masks` must have shape (n_subsets, n_train); got {array.shape}.")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        other = array[~np.isin(array, (0, 1))][0]
        raise ValueError(
            "`masks` must hold booleans or zeros and ones (is the example in the subset?); "
            f"got {'NaN' if other != other else f'{other:g}'}. Did you give positions instead of "
            "masks?"
        )
    if n_subsets is not None and len(array) != n_subsets:
        raise ValueError(
            f"`masks` has {len(array)} subsets, the outputs have {n_subsets}. "
            "Both need one row for each subset, in the same order."
        )
    return array.astype(bool)


def check_same_shape(array: NDArray, name: str, expected: tuple[int, ...], axes: str) -> None:
    """Raise ValueError unless `array` has the expected shape."""
    if array.shape == expected:
        return
    hint = " It looks transposed." if array.shape == expected[::-1] else ""
    raise ValueError(f"`{name}` must have shape {axes} = {expected}; got {array.shape}.{hint}")
