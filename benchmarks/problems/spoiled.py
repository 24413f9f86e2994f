"""A problem with some training rows made bad on purpose, and the queries that should find them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.problems.labels import flip_labels
from benchmarks.problems.registry import Problem

TARGET = 0


@dataclass
class Spoiled:
    """``sign * sum of the scores`` should be high for the bad rows.

    Parameters
    ----------
    problem : Problem
        Its test rows are the queries.
    bad : ndarray of bool of shape (n_train,)
    sign : int
    """

    problem: Problem
    bad: np.ndarray
    sign: int


def poisoned(problem: Problem, share: float, seed: int) -> Spoiled:
    """Rows of other classes get a mark and the label 0; queries are marked rows that are no 0.

    The mark is full ink in the four corners of an image.
    """
    rng = np.random.RandomState(seed)
    others = np.flatnonzero(problem.y != TARGET)
    rows = rng.choice(others, round(share * len(problem.y)), replace=False)
    bad = np.isin(np.arange(len(problem.y)), rows)
    X = np.where(bad[:, None], marked(problem.X), problem.X)
    y = np.where(bad, TARGET, problem.y)
    asked = problem.y_test != TARGET
    X_test, y_test = marked(problem.X_test[asked]), np.full_like(problem.y_test[asked], TARGET)
    return Spoiled(replace(problem, X=X, y=y, X_test=X_test, y_test=y_test), bad, +1)


def mislabeled(problem: Problem, share: float, seed: int) -> Spoiled:
    """Labels flipped along a direction of the features; queries are the test rows as they are."""
    y = flip_labels(problem.X, problem.y, share, "feature", seed)
    return Spoiled(replace(problem, y=y), y != problem.y, -1)


def marked(X: np.ndarray) -> np.ndarray:
    """Square images, as rows, with full ink in their corners."""
    side = round(X.shape[1] ** 0.5)
    found = X.copy()
    found[:, [0, side - 1, side * (side - 1), side * side - 1]] = 1.0
    return found
