"""Methods that look at a recorded run, right and wrong ones, and how they are judged."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from benchmarks.measures.private import ConstantRateAssumed, NoDecayAssumed
from influencekit import LESS, AdamWInfluence, DVEmb, SGDInfluence
from influencekit.training import trajectory_leave_one_out


def methods(trajectory, scheduled: bool) -> dict:
    """Attributors by name; those that are wrong about the run where it can be told."""
    own, in_run = {"trajectory": trajectory}, {"horizon": 0, "curvature": "none"}
    found = {
        "AdamW, hessian": AdamWInfluence(**own, curvature="hessian"),
        "AdamW, hessian, fixed share": AdamWInfluence(**own, curvature="hessian", removal="fixed"),
        "AdamW, ggn": AdamWInfluence(**own, curvature="ggn"),
        "AdamW, fisher": AdamWInfluence(**own, curvature="fisher"),
        "AdamW, none": AdamWInfluence(**own, curvature="none"),
        "SGD-influence": SGDInfluence(**own, curvature="hessian"),
        "DVEmb-type": DVEmb(**own),
        "TracIn": SGDInfluence(**own, **in_run, removal="fixed"),
        "LESS-type": LESS(**own),
    }
    if scheduled:
        found["AdamW, constant rate assumed"] = ConstantRateAssumed(**own, curvature="hessian")
        found["AdamW, no decay assumed"] = NoDecayAssumed(**own, curvature="hessian")
    return found


def scores(run, scheduled: bool, wanted: list[str] | None = None) -> dict[str, np.ndarray]:
    """Scores (n_test, n_left_out) of every method."""
    found = {}
    for name, attributor in methods(run.trajectory, scheduled).items():
        if wanted is None or name in wanted:
            fitted = attributor.fit(run.task, run.X, run.y)
            found[name] = fitted.score(run.X_test, run.y_test)[:, run.left_out]
    if wanted is None or "AdamW, hessian, finite" in wanted:
        found["AdamW, hessian, finite"] = finite(run)[0]
    return found


def finite(run) -> tuple[np.ndarray, object]:
    """Scores of the finite removal, of the left-out examples alone, and their proxy."""
    influence = AdamWInfluence(run.trajectory, "hessian").fit(run.task, run.X, run.y)
    found = influence.taylor_error_proxy(run.X_test, run.y_test, run.left_out, estimate="finite")
    return found.scores + found.proxy, found


def kinks(run):
    """The error proxy of kinks."""
    influence = AdamWInfluence(run.trajectory, "hessian").fit(run.task, run.X, run.y)
    return influence.taylor_error_proxy(run.X_test, run.y_test, run.left_out, estimate="kinks")


def reruns(run):
    """The same run without each of the left-out examples."""
    return trajectory_leave_one_out(
        run.task, *run.data, left_out=run.left_out, trajectory=run.trajectory
    )


def correlation(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over test examples of Spearman's correlation over the left-out ones."""
    each = [spearmanr(a, b).statistic for a, b in zip(scores, truth, strict=True)]
    return float(np.nanmean(each))


def error(scores: np.ndarray, truth: np.ndarray) -> float:
    """Of the scores' size."""
    return float(np.linalg.norm(scores - truth) / np.linalg.norm(truth))


def median_error(scores: np.ndarray, truth: np.ndarray) -> float:
    """Median over examples of the relative error."""
    error, size = (np.linalg.norm(a, axis=0) for a in (scores - truth, truth))
    return float(np.median(error / size))


def by_kinks(ratio: np.ndarray, finite: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What the kinks' ratio tells of the error, and both halves of the examples."""
    if not ratio.any():
        return {}
    wrong = np.linalg.norm(finite - truth, axis=0) / np.linalg.norm(truth, axis=0)
    half = ratio <= np.median(ratio)
    return {
        "kinks rank": float(spearmanr(ratio, wrong).statistic),
        "lower half spearman": correlation(finite[:, half], truth[:, half]),
        "lower half error": float(np.median(wrong[half])),
        "upper half error": float(np.median(wrong[~half])),
    }
