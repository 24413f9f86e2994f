"""A baseline of random scores."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np
from scipy.special import ndtri

from influencekit.base import BaseAttributor, Fitted
from influencekit.data._examples import Examples
from influencekit.data._sources import leaves
from influencekit.models._task import Task
from influencekit.utils._long_work import chunks
from influencekit.utils._random import draw_seed

__all__ = ["RandomBaseline"]

#: Number of scores drawn at once.
_CHUNK = 2**22


class RandomBaseline(BaseAttributor):
    """Baseline: standard normal scores, independent of each other and of the model.

    A score depends only on the seed and on the content of the two examples (inputs and target). It
    is the same in every call, for any other examples given and any order of the data. Equal
    examples have equal scores.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seed for the scores; with an int, every fit gives the same scores.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    Cost ``O(n_query n_train)``. With an int, the scores of several models equal those of one model.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import RandomBaseline
    >>> X, y = load_iris(return_X_y=True)
    >>> random = RandomBaseline(random_state=0)
    >>> random.fit(LogisticRegression(max_iter=1000).fit(X, y), X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {"random_state": ["random_state"]}

    def __init__(self, random_state: Any = None):
        self.random_state = random_state

    def _fit(self, _task: Task, train: Examples) -> Fitted:
        return Noise(train, draw_seed(self.random_state))


class Noise(Fitted):
    """Normal random numbers that depend on a seed and on the content of two examples.

    Parameters
    ----------
    train : Examples
    seed : int
    """

    def __init__(self, train: Examples, seed: int):
        self.seed, self.train = seed, _names(train, seed)

    def scores(self, queries: Examples) -> np.ndarray:
        rows = _scrambled(_names(queries, self.seed))
        out = np.empty((len(rows), len(self.train)))
        for some in chunks(len(rows), len(self.train), _CHUNK):
            out[some] = _normal(rows[some, None] ^ self.train)
        return out

    def self_scores(self) -> np.ndarray:
        return _normal(_scrambled(self.train) ^ self.train)


def _names(examples: Examples, seed: int) -> np.ndarray:
    """A 64-bit hash of the content of each example."""
    names = np.empty(len(examples), dtype=np.uint64)
    for batch in examples.batches(1):  # alone: a batch may be padded to its longest example
        name = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8)
        for _, leaf in leaves((batch.inputs, batch.targets)):
            if leaf is not None:
                name.update(leaf.detach().cpu().contiguous().numpy().tobytes())
        names[batch.rows] = int.from_bytes(name.digest(), "little")
    return names


def _scrambled(numbers: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64: a bijection that changes half of the bits."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _normal(numbers: np.ndarray) -> np.ndarray:
    """Standard normal variates from 64-bit numbers."""
    uniform = (_scrambled(numbers) >> np.uint64(11)).astype(np.float64)
    return ndtri((uniform + 0.5) * 2.0**-53)
