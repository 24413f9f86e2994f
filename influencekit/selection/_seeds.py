"""Copies of an attributor that draw the same random numbers at every fit of a search."""

from __future__ import annotations

from sklearn.base import clone
from sklearn.utils import check_random_state

from influencekit.utils import draw_seed

__all__ = ["seeded_clone", "unset_seeds"]


def seeded_clone(attributor, random_state):
    """Clone an attributor, with an int for every ``random_state`` that is None.

    What is scored, fitted again and kept is then one and the same attributor.

    Parameters
    ----------
    attributor : attributor
    random_state : int, RandomState instance or None
        Of the ints.

    Returns
    -------
    attributor
    """
    return clone(attributor).set_params(**unset_seeds(attributor, random_state))


def unset_seeds(attributor, random_state) -> dict[str, int]:
    """Draw an int for every ``random_state`` of an attributor that is None.

    Parameters
    ----------
    attributor : attributor
    random_state : int, RandomState instance or None

    Returns
    -------
    dict of str to int
        By parameter name.
    """
    rng = check_random_state(random_state)
    params = attributor.get_params(deep=True)
    names = [name for name in sorted(params) if name.split("__")[-1] == "random_state"]
    return {name: draw_seed(rng) for name in names if params[name] is None}
