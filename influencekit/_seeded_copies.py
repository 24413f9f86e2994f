"""Configurations of an attributor for each of several models."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone
from sklearn.utils import check_random_state

from influencekit.utils._random import draw_seed

__all__ = ["seeded_copies"]


def seeded_copies(attributor: Any, n_copies: int) -> list:
    """Unfitted clones that draw different random numbers, as models of an ensemble should.

    Parameters
    ----------
    attributor : attributor
        The seeds of the clones come from its ``random_state``, if it has one.
    n_copies : int

    Returns
    -------
    list of attributors
    """
    params = attributor.get_params(deep=True)
    names = [name for name in sorted(params) if name.split("__")[-1] == "random_state"]
    streams = {name: check_random_state(params[name]) for name in names}
    copies = []
    for _ in range(n_copies):
        seeds = {name: draw_seed(rng) for name, rng in streams.items()}
        copies.append(clone(attributor).set_params(**seeds))
    return copies
