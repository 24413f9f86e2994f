"""Progress bars that are silent unless asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm.auto import tqdm

__all__ = ["progress"]

T = TypeVar("T")


def progress(items: Iterable[T], description: str, verbose: int = 0, **options) -> Iterable[T]:
    """Go through items, with a bar if ``verbose`` is positive.

    Parameters
    ----------
    items : iterable
    description : str
        What is being done, shown before the bar.
    verbose : int, default=0
    **options
        Further arguments of tqdm, such as ``total``.

    Returns
    -------
    items : iterable
        The same items.
    """
    return tqdm(items, desc=description, disable=verbose <= 0, **options)
