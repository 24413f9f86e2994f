"""Copies of an attributor, one for each of several models."""

from __future__ import annotations

from sklearn.base import clone
from sklearn.utils import check_random_state

__all__ = ["member_clones"]


def member_clones(attributor, n_members: int) -> list:
    """Clones that draw different random numbers, as models of an ensemble should.

    Parameters
    ----------
    attributor : attributor
        The seeds of the clones come from its own ``random_state``, where it has one.
    n_members : int

    Returns
    -------
    list of attributors
    """
    params = attributor.get_params(deep=True)
    names = [name for name in sorted(params) if name.split("__")[-1] == "random_state"]
    streams = {name: check_random_state(params[name]) for name in names}
    members = []
    for _ in range(n_members):
        seeds = {name: int(rng.randint(2**31 - 1)) for name, rng in streams.items()}
        members.append(clone(attributor).set_params(**seeds))
    return members
