"""A value that may be missing by its type and that earlier checks have made sure of."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["present"]

T = TypeVar("T")


def present(value: T | None, what: str) -> T:
    """Return the value, which is not None here.

    Parameters
    ----------
    value : object or None
    what : str
        Its name in the message.

    Returns
    -------
    object
        ``value``.

    Raises
    ------
    RuntimeError
        If it is None after all: users are told of missing arguments where these enter.
    """
    if value is None:
        raise RuntimeError(
            f"{what}: got None where earlier checks should have made sure of a value. This is an "
            "error of influencekit, not of your call; please report it."
        )
    return value
