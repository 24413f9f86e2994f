"""Which scores a proxy of their error calls trusted, and whether they are."""

from __future__ import annotations

import numpy as np

from benchmarks.measures.along_runs import correlation

#: What scores that are called trusted should reach, and the fewest examples that say so.
TRUSTED, FEWEST = 0.95, 20


def by_count(ratio: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> list[list[float]]:
    """By the number of examples with the smallest ratios: Spearman of these and of the others."""
    order, found = np.argsort(ratio, kind="stable"), []
    for count in range(1, len(order) + 1):
        parts = [
            correlation(scores[:, rows], truth[:, rows]) if len(rows) > 2 else np.nan
            for rows in (order[:count], order[count:])
        ]
        found.append([float(ratio[order[count - 1]]), *parts])
    return found


def threshold_of(row: dict) -> float:
    """The largest ratio up to which a run's scores can be trusted."""
    n, curve = len(row["ratio"]), row["by_example"]
    counts = range(n, max(min(FEWEST, n), n // 10) - 1, -max(1, n // 40))
    for count in counts:
        if (curve[count - 1][1] or 0.0) >= TRUSTED:
            break
    return curve[count - 1][0]


def table(rows: list[dict]) -> list[dict]:
    """A line for each run, the threshold that of the first seed of its rate."""
    found = []
    for lr in dict.fromkeys((r["data"], r["lr"]) for r in rows):
        own = [r for r in rows if (r["data"], r["lr"]) == lr]
        threshold = threshold_of(own[0])
        for r in own:
            count = int((np.array(r["ratio"]) <= threshold).sum())
            trusted, others = r["by_example"][max(count, 1) - 1][1:]
            numbers = [np.median(r["ratio"]), threshold, count / len(r["ratio"]), trusted, others]
            found.append({"lr": r["lr"], "seed": r["seed"],
                          "numbers": [*numbers, r["rank_of_error"]]})  # fmt: skip
    return found
