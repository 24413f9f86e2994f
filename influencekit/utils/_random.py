"""Seeds from a random state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

__all__ = ["MAX_SEED", "draw_seed", "seeds_set"]

#: Upper bound of seeds, so that torch, numpy and scikit-learn all accept them.
MAX_SEED = 2**31 - 1


def draw_seed(random_state: Any) -> int:
    """A seed that torch, numpy and scikit-learn all accept.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        An instance advances by one draw.

    Returns
    -------
    int

    Examples
    --------
    >>> draw_seed(0) == draw_seed(0)
    True
    """
    return int(check_random_state(random_state).randint(MAX_SEED))


@contextmanager
def seeds_set(seed: int) -> Iterator[None]:
    """Seed torch on the CPU, numpy and Python inside the block, and restore them afterwards.

    Parameters
    ----------
    seed : int
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.random.default_generator.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
