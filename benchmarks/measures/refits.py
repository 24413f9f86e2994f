"""Models of scikit-learn's kind fitted again on some of the rows, without the library."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from benchmarks.harness import Table
from benchmarks.harness.tables import short

BOUND = ["removals", "bound below the error", "bound above 5%", "bound over error, median"]
BY_BOUND = ["removed", "bounds above 5%", "cells", "slope .9 to 1.1", "Spearman below first order",
            "slope, least", "slope, largest", "spearman, least"]  # fmt: skip


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


def bound_tables(rows: list[dict]) -> dict[str, Table]:
    """Bounds of one Newton step, and how near it is in cells with and without one above 5%."""
    sums = [f"{sum(r[key] for r in rows):,}" for key in ("n", "below", "refits")]
    sums.append(short(np.median([r["times"] for r in rows if r["times"]]), 3))
    lines = []
    for kind, above in ((k, a) for k in ("rows", "groups") for a in (False, True)):
        some = [r for r in rows if r["kind"] == kind and (r["refits"] > 0) == above]
        slopes = [r["slope newton"] for r in some] or [np.nan]
        spearman = min((r["spearman newton"] for r in some), default=np.nan)
        near = sum(0.9 <= slope <= 1.1 for slope in slopes)
        worse = sum(r["spearman newton"] < r["spearman first"] - 1e-9 for r in some)
        figures = (short(v, 3) for v in (min(slopes), max(slopes), spearman))
        counts = str(len(some)), str(near), str(worse)
        lines.append([kind, "some" if above else "none", *counts, *figures])
    return {"bound": Table(BOUND, [sums], 0), "by bound": Table(BY_BOUND, lines, 2)}
