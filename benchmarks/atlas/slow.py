"""The slow tier: models are trained again without the rows that a method puts first."""

from __future__ import annotations

import numpy as np

from influencekit.datasets._ground_truth import GroundTruth
from influencekit.training import retrain_on_subsets

#: Share of the rows that is taken out, queries, and most trainings of each.
SHARE, N_QUERIES, MOST_REPEATS = 0.05, 10, 2


def brittleness(truth: GroundTruth, scores: np.ndarray) -> dict:
    """How a query's output changes without its first 5 % of the rows, in new trainings.

    ``fall`` (quality of the left-out loss, QLD) is the output with all rows minus the one without,
    in standard deviations of the query's output over the stored halves, as a mean over queries;
    ``turned`` (brittleness) the share of right predictions that become wrong.
    """
    n, queries = len(truth.X), np.arange(min(N_QUERIES, len(truth.X_query)))
    first = np.argsort(-scores[queries], axis=1, kind="stable")[:, : round(SHARE * n)]
    masks = np.ones((1 + len(queries), n), dtype=bool)
    np.put_along_axis(masks[1:], first, False, axis=1)
    halves = truth.halves.outputs[:, :, queries]
    outputs = retrain_on_subsets(
        truth.new_model(), truth.X, truth.y, truth.X_query[queries], truth.y_query[queries],
        masks=masks, n_repeats=min(halves.shape[1], MOST_REPEATS), output=truth.output,
        random_state=0,
    ).outputs.mean(axis=1)  # fmt: skip
    before, after, spread = outputs[0], outputs[1:].diagonal(), halves.mean(axis=1).std(axis=0)
    falls = ((before - after) / np.where(spread > 0, spread, 1))[spread > 0]
    right = before > 0
    turned = np.mean(after[right] < 0) if truth.output == "margin" and right.any() else None
    error = falls.std(ddof=1) / np.sqrt(len(falls))
    return {"fall": float(falls.mean()), "fall_error": float(error),
            "turned": None if turned is None else float(turned)}  # fmt: skip
