"""Scores of tree models beside plain baselines, and what refitted leaves alone explain."""

from __future__ import annotations

import numpy as np
from sklearn.base import is_classifier

from benchmarks.measures.private import refitted_leaves
from benchmarks.measures.refits import row_means
from influencekit import TreeInfluence
from influencekit.metrics import linear_datamodeling_score
from influencekit.models.trees._task import tree_task

METHODS = ("auto", "leaf", "boostin", "axil", "kernel")
BASELINES = ("same label", "leaf kernel", "random")


def explained(model, Q, u) -> np.ndarray:
    """Negative loss of every query."""
    if not is_classifier(model):
        return -0.5 * (model.predict(Q) - u) ** 2
    share = model.predict_proba(Q)[np.arange(len(u)), np.searchsorted(model.classes_, u)]
    floor = 0.5 / len(model.estimators_) if type(model).__module__.endswith("_forest") else 1e-12
    return np.log(np.maximum(share, floor))


def scores_of(name: str, model, X, y, Q, u) -> np.ndarray | None:
    """Scores (n_query, n_train) of a method or baseline; None where it does not apply."""
    classes = is_classifier(model)
    same = 2.0 * (y == u[:, None]) - 1 if classes else -np.abs(y - u[:, None])
    if name == "same label":
        return same
    if name == "leaf kernel":
        leaves = tree_task(model).transform
        shared = (leaves(Q)[:, None, :] == leaves(X)[None]).mean(2)
        side = np.sign(u - model.predict(Q))[:, None] if not classes else None
        return shared * (same if classes else side * (y - y.mean()))
    if name == "random":
        return np.random.default_rng(0).normal(size=(len(Q), len(X)))
    try:
        return TreeInfluence(name).fit(model, X, y).score(Q, u)
    except TypeError:
        return None


def qualities(model, data: tuple, masks, outputs, alone: np.ndarray, effects) -> dict:
    """LDS of every method, and correlation and slope beside single removals of rows ``alone``."""
    found = {}
    for name in (*METHODS, *BASELINES):
        scores = scores_of(name, model, *data)
        if scores is None or np.abs(scores).max() < 1e-12:  # pure leaves do not move
            continue
        single = scores[:, alone]
        found[name] = linear_datamodeling_score(outputs, masks, scores).mean
        found[f"{name}, rows"] = row_means(single, effects)
        found[f"{name}, slope"] = (single * effects).sum() / max((effects**2).sum(), 1e-300)
    return found


def of_leaves(model, data: tuple, masks, outputs) -> list[float]:
    """Correlation of retrained models with refitted leaves, and their share of the variance."""
    held = refitted_leaves(model, *data, masks)
    return [row_means(outputs.T, held.T), float(held.var(0).sum() / outputs.var(0).sum())]
