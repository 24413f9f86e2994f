"""Checks of single arguments: numbers, seeds, hidden entries, and what nothing uses."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np

from influencekit.exceptions import InfluenceKitWarning, warn_user

__all__ = [
    "check_flag",
    "check_integer",
    "check_number",
    "check_path",
    "check_seed",
    "real_array",
    "refuse_masked",
    "warn_unused",
]


def check_flag(name: str, got: Any) -> None:
    """Refuse anything but True and False: a text would count as True.

    Parameters
    ----------
    name : str
    got : object

    Raises
    ------
    ValueError
    """
    if not isinstance(got, (bool, np.bool_)):
        raise ValueError(f"{name}: got {got!r:.80}; accepted are True and False.")


def check_integer(name: str, got: Any, least: int, most: int | None = None) -> None:
    """Refuse anything but an integer in a range; numpy's integers are fine, True is not.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    got : object
    least : int
    most : int or None, default=None
        None for no upper bound.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_integer("k", 0, 1, 50)
    Traceback (most recent call last):
    ...
    ValueError: k: got 0; accepted is an int from 1 to 50.
    """
    whole = isinstance(got, Integral) and not isinstance(got, bool)
    if not whole or got < least or (most is not None and got > most):
        range_ = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        raise ValueError(f"{name}: got {got!r}; accepted is an int {range_}.")


def check_number(name: str, got: Any, low: float, high: float, accepted: str) -> None:
    """Refuse anything but a number strictly between two others.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    got : object
    low, high : float
        Both are excluded.
    accepted : str
        What is accepted, in words.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_number("fraction", "half", 0, 1, "a number between 0 and 1")
    Traceback (most recent call last):
    ...
    ValueError: fraction: got 'half'; accepted is a number between 0 and 1.
    """
    if not isinstance(got, Real) or isinstance(got, bool) or not low < float(got) < high:
        raise ValueError(f"{name}: got {got!r}; accepted is {accepted}.")


def check_path(name: str, got: Any) -> None:
    """Refuse anything but a path, as text or as an object.

    Parameters
    ----------
    name : str
    got : object

    Raises
    ------
    TypeError
    """
    if not isinstance(got, (str, os.PathLike)):
        raise TypeError(
            f"{name}: got {got!r:.80}; accepted is a path, as text or as a pathlib.Path."
        )


def check_seed(got: Any, name: str = "random_state") -> None:
    """Refuse anything but None, a RandomState, and an int that numpy takes as a seed.

    Parameters
    ----------
    got : object
    name : str, default="random_state"

    Raises
    ------
    ValueError
    """
    if got is None or isinstance(got, np.random.RandomState) or got is np.random:
        return
    if not isinstance(got, Integral) or isinstance(got, bool) or not 0 <= int(got) < 2**32:
        raise ValueError(
            f"{name}: got {got!r}; accepted are None, an int from 0 to 2**32 - 1, and a numpy "
            "RandomState."
        )


def refuse_masked(name: str, *values: Any) -> None:
    """Refuse numpy's masked arrays if an entry is hidden, as its value would be used all the same.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    *values : object

    Raises
    ------
    ValueError

    Examples
    --------
    >>> refuse_masked("X", np.ma.masked_equal([1, 2], 2))
    Traceback (most recent call last):
    ...
    ValueError: X: got a masked array with 1 hidden entries, whose values would be used; ...
    """
    for value in values:
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            n = int(np.ma.getmaskarray(value).sum())
            raise ValueError(
                f"{name}: got a masked array with {n:,} hidden entries, whose values would be "
                f"used; accepted are arrays without hidden entries. Give {name}.filled(value), "
                "or leave "
                "those rows out."
            )


def warn_unused(name: str, got: Any, why: str, advice: str = "") -> None:
    """Warn that a parameter is set and nothing uses it.

    Parameters
    ----------
    name : str
    got : object
    why : str
        After "is not used": "because ...".
    advice : str, default=""
        What to do instead of leaving it out.
    """
    more = f", or {advice}" if advice else ""
    what = f" {type(got).__name__}" if len(repr(got)) > 60 else f" {got!r}"
    warn_user(
        f"{name}: got{what}, which is not used {why}. Leave {name} out{more}.",
        InfluenceKitWarning,
    )


def real_array(name: str, values: Any, shape: str = "") -> np.ndarray:
    """Values as float64; text, objects, complex numbers and hidden entries are refused.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    values : array-like
    shape : str, default=""
        Accepted shapes, for the message.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError

    Examples
    --------
    >>> real_array("scores", ["0.5", "high"])
    Traceback (most recent call last):
    ...
    ValueError: `scores`: got text (<U4); accepted are real numbers.
    """
    accepted = f"accepted are real numbers{shape and ', shape ' + shape}"
    refuse_masked(name, values)
    if values is None:
        raise ValueError(f"`{name}`: got None; {accepted}.")
    try:
        given = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"`{name}`: got no array of numbers ({error}); {accepted}.") from error
    if given.dtype.kind in "USc":
        what = "complex numbers" if given.dtype.kind == "c" else "text"
        raise ValueError(f"`{name}`: got {what} ({given.dtype}); {accepted}.")
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}`: got values that are not numbers ({error}); {accepted}."
        ) from error
