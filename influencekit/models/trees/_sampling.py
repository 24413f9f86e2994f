"""Rows that each tree was fitted to, drawn again as scikit-learn drew them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Bootstraps", "RowsOfCount", "StageRows"]

#: Upper bound of the splitter seeds drawn by scikit-learn's trees.
_RAND_R_MAX = 2147483647


class StageRows:
    """Rows that GradientBoosting drew for each stage, reproduced by drawing them again.

    Parameters
    ----------
    seed : int
    subsample : float
    n_stages : int
    trees_each : int
        Number of trees per stage; each draws one seed.
    """

    def __init__(self, seed: int, subsample: float, n_stages: int, trees_each: int):
        self.seed, self.subsample = seed, subsample
        self.n_stages, self.trees_each = n_stages, trees_each

    def __call__(self, n: int) -> np.ndarray:
        """Mask (n_stages, n)."""
        random = np.random.RandomState(self.seed)
        wanted, drawn = max(1, int(self.subsample * n)), np.zeros((self.n_stages, n), dtype=bool)
        for mask in drawn:
            mask[:] = _mask(random.uniform(size=n), wanted)
            for _ in range(self.trees_each):
                random.randint(0, _RAND_R_MAX)
        return drawn


def _mask(uniform: np.ndarray, wanted: int) -> np.ndarray:
    """Exactly ``wanted`` rows, each decided in order by its uniform number."""
    mask, n, found = np.zeros(len(uniform), dtype=bool), len(uniform), 0
    for i, number in enumerate(uniform.tolist()):
        if number * (n - i) < wanted - found:
            mask[i] = True
            found += 1
    return mask


class Bootstraps:
    """How often a forest drew each row for each tree.

    Parameters
    ----------
    forest : fitted forest of scikit-learn
        With ``bootstrap=True``.
    """

    def __init__(self, forest: Any):
        self.forest = forest

    def __call__(self, n: int) -> np.ndarray | None:
        """Counts (n_trees, n); None if they were drawn from more rows."""
        drawn = self.forest.estimators_samples_
        if max(int(rows.max()) for rows in drawn) >= n:
            return None
        return np.stack([np.bincount(rows, minlength=n) for rows in drawn]).astype(np.float64)


class RowsOfCount:
    """Rows that early stopping left for training; all if it had separate validation data.

    Parameters
    ----------
    split : callable
        ``split(X, y) -> (n,) bool``: the rows that remain if some were held out.
    count : int
        Number of rows that the trees were fitted to.
    """

    def __init__(self, split: Callable[[Any, Any], np.ndarray], count: int):
        self.split, self.count = split, count

    def __call__(self, X: Any, y: Any) -> np.ndarray:
        """Mask (n,) of the training rows."""
        return np.ones(len(y), dtype=bool) if len(y) == self.count else self.split(X, y)
