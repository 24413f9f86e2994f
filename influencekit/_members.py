"""Copies of an attributor, one for each of several models."""

from __future__ import annotations

import copy

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from influencekit.models import TaskList
from influencekit.utils import draw_seed

__all__ = ["first_members", "member_clones"]


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
        seeds = {name: draw_seed(rng) for name, rng in streams.items()}
        members.append(clone(attributor).set_params(**seeds))
    return members


def first_members(attributor, n_models: int):
    """The attributor that a fit with the first of its models would give; nothing is computed.

    Parameters
    ----------
    attributor : attributor
        Fitted with a list of models.
    n_models : int
        How many of them to keep.

    Returns
    -------
    attributor or None
        A shallow copy; None where the attributor does not keep one member for each model.
    """
    if attributor._members is None or n_models > len(attributor._members):
        return None
    part = copy.copy(attributor)
    part._members = attributor._members[:n_models]
    part._opened = TaskList(attributor._opened[:n_models])
    part.train_rows_ = np.unique(np.concatenate([m.train_rows_ for m in part._members]))
    part._share_members(part._members)
    return part
