"""Suggestions for misspelled words."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

__all__ = ["check_choice", "did_you_mean"]


def did_you_mean(got: Any, accepted: Iterable[Any]) -> str:
    """End of a message: the accepted word closest to the given one, if one is close.

    Case, spaces, hyphens and underscores do not count.  A word of the same letters is closest.

    Parameters
    ----------
    got : object
        The given value; only a str gets a suggestion.
    accepted : iterable of object
        Accepted values; those that are not str are ignored.

    Returns
    -------
    str
        Suggestion that starts with a space; empty if no word is close.

    Examples
    --------
    >>> did_you_mean("gnn", ["ggn", "fisher"])
    " Did you mean 'ggn'?"
    >>> did_you_mean("K-FAC", ["kfac", "ekfac"])
    " Did you mean 'kfac'?"
    >>> did_you_mean("identity", ["ggn", "fisher"])
    ''
    """
    if not isinstance(got, str):
        return ""
    words: dict[str, str] = {}
    for word in accepted:
        if isinstance(word, str):
            words.setdefault(_plain(word), word)
    given = _plain(got)
    swapped = [word for word in words if sorted(word) == sorted(given)]
    near = swapped or get_close_matches(given, words, n=1)
    return f" Did you mean {words[near[0]]!r}?" if near else ""


def check_choice(name: str, got: Any, accepted: Iterable[str]) -> None:
    """Refuse anything but one of some words.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    got : object
    accepted : iterable of str

    Raises
    ------
    ValueError
        With the accepted words, and a suggestion.

    Examples
    --------
    >>> check_choice("removal", "paired", ["paired", "drop"])
    >>> check_choice("removal", "pared", ["paired", "drop"])
    Traceback (most recent call last):
    ...
    ValueError: removal: got 'pared'; accepted are ['paired', 'drop']. Did you mean 'paired'?
    """
    words = list(accepted)
    if not isinstance(got, str) or got not in words:
        raise ValueError(f"{name}: got {got!r}; accepted are {words}.{did_you_mean(got, words)}")


def _plain(word: str) -> str:
    """A word in lower case, without spaces, hyphens and underscores."""
    return "".join(c for c in word.casefold() if c not in " -_")
