"""DataLoaders: only those whose batches hold each example of the dataset exactly once."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from influencekit.exceptions import InfluenceKitWarning, warn_user

__all__ = ["check_loader"]


def check_loader(loader: DataLoader, name: str) -> None:
    """Refuse a DataLoader that does not yield each example of its dataset exactly once.

    Parameters
    ----------
    loader : torch.utils.data.DataLoader
        Loader of a map-style dataset.
    name : str
        The argument's name in messages.

    Raises
    ------
    ValueError

    Warns
    -----
    InfluenceKitWarning
        If ``drop_last`` leaves the same rows out of every epoch.
    """
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ValueError(
            f"{name}: got a DataLoader with batch_size=None, whose dataset makes its own batches; "
            "accepted is one that batches single examples. Give batch_size, or pass arrays."
        )
    n = len(loader.dataset)  # type: ignore[arg-type]
    own_batches = loader.batch_size is None
    sampler = loader.batch_sampler if own_batches else loader.sampler
    if not _yields_all(loader, sampler, n, own_batches):
        what = "batch_sampler" if own_batches else "sampler"
        raise ValueError(
            f"{name}: got a DataLoader with a {what} ({type(sampler).__name__}) that does "
            "not yield every example exactly once; accepted is shuffle=True or False. Name the "
            "examples "
            "instead: DataLoader(torch.utils.data.Subset(dataset, rows))."
        )
    size = loader.batch_size
    if size and loader.drop_last and n % size and isinstance(sampler, SequentialSampler):
        warn_user(
            f"{name}: got a DataLoader with drop_last=True, which leaves out the last {n % size} "
            f"of {n:,} examples in every epoch. Here they count as training data. If the model was "
            "trained with this loader, give torch.utils.data.Subset(dataset, "
            f"range({n - n % size})).",
            InfluenceKitWarning,
        )


def _yields_all(loader: DataLoader, sampler: Any, n: int, batches: bool) -> bool:
    """Whether a sampler yields each of n positions once; True if its items are not positions."""
    if isinstance(sampler, SequentialSampler):
        return True
    if isinstance(sampler, RandomSampler):
        return not sampler.replacement and sampler.num_samples == n
    if isinstance(sampler, Iterator):  # of one epoch
        return False
    try:
        # a copy: reading the user's own could move its order of the next epoch
        twin = copy.deepcopy(sampler, {id(loader.dataset): loader.dataset})
        with _random_state_kept():
            found = _positions(twin, n, batches)
    except Exception:  # of a kind that cannot be copied, or that reads more than positions
        return not hasattr(sampler, "__len__") or batches or len(sampler) == n
    return sorted(found) == list(range(n))


def _positions(sampler: Any, n: int, batches: bool) -> list[int]:
    """The first n + 1 positions that a sampler, or a sampler of batches, yields."""
    found: list[int] = []
    for item in sampler:
        found.extend(int(i) for i in (item if batches else (item,)))
        if len(found) > n:
            break
    return found


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leave the global random states of torch, numpy and Python as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  the global state itself
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002  the global state itself
