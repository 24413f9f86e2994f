"""The slow tier: models are trained again without the rows that a method puts first."""

from __future__ import annotations

import numpy as np

from influencekit.datasets._ground_truth import GroundTruth
from influencekit.training import retrain_on_subsets

#: Share of the rows that is taken out, queries, and trainings of each.
SHARE, N_QUERIES, N_REPEATS = 0.05, 10, 3


def brittleness(truth: GroundTruth, scores: np.ndarray) -> dict:
    """Fall of a query's output without its first 5 % of the rows, in new trainings.

    ``fall`` is the mean over queries of the output with all rows minus the one without; ``turned``
    the share of queries whose margin was positive and is negative then.
    """
    n, queries = len(truth.X), np.arange(min(N_QUERIES, len(truth.X_query)))
    first = np.argsort(-scores[queries], axis=1, kind="stable")[:, : round(SHARE * n)]
    masks = np.ones((1 + len(queries), n), dtype=bool)
    np.put_along_axis(masks[1:], first, False, axis=1)
    found = retrain_on_subsets(
        truth.new_model(), truth.X, truth.y, truth.X_query[queries], truth.y_query[queries],
        masks=masks, n_repeats=N_REPEATS, output=truth.output, random_state=0,
    )  # fmt: skip
    outputs = found.outputs.mean(axis=1)
    before, after = outputs[0], outputs[1:].diagonal()
    falls, right = before - after, before > 0
    turned = {"turned": float(np.mean(after[right] < 0))} if right.any() else {}
    error = float(falls.std(ddof=1) / np.sqrt(len(falls)))
    return {"fall": float(falls.mean()), "fall_error": error, **turned}
