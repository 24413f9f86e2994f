"""Models of scikit-learn's kind fitted again on some of the rows, without the library."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone


def halves(n: int, n_subsets: int, rng) -> np.ndarray:
    """Masks (n_subsets, n), each of half the rows."""
    masks = np.zeros((n_subsets, n), dtype=bool)
    for mask in masks:
        mask[rng.choice(n, n // 2, replace=False)] = True
    return masks


def refitted(model, X, y, Q, u, masks, outputs) -> np.ndarray:
    """Outputs (n_masks, n_query) of models fitted on subsets."""
    return np.stack([outputs(clone(model).fit(X[m], y[m]), Q, u) for m in masks])


def row_means(a: np.ndarray, b: np.ndarray) -> float:
    """Mean correlation of the rows of a with those of b, where both vary; 0 where none do."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    varies = lengths > 0
    return float(np.mean((a * b).sum(1)[varies] / lengths[varies])) if varies.any() else 0.0


def labeled(kind: str, scores: np.ndarray, n_rows: int, rng) -> np.ndarray:
    """A group for each row that is looked at, for each 5%, or for the most helpful rows."""
    n, labels = len(scores), np.full(len(scores), -1)
    if kind == "rows":
        labels[rng.permutation(n)[:n_rows]] = np.arange(min(n, n_rows))
    elif kind == "groups":
        labels[:] = rng.permutation(np.arange(n) % 20)
    else:  # the first per cent, the next two, the next seven
        order, ends = np.argsort(-scores), [max(k, n * k // 100) for k in (1, 3, 10)]
        labels[order] = np.searchsorted(ends, np.arange(n), side="right")
    labels[labels < 0] = labels.max() + 1
    return labels
