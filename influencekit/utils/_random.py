"""Seeds from a random state."""

from __future__ import annotations

from typing import Any

from sklearn.utils import check_random_state

__all__ = ["MAX_SEED", "draw_seed"]

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
