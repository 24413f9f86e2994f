"""Detectors of wrong labels that share their fits: scores, counts and CPU seconds."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from skorch import NeuralNet
from skorch.callbacks import Callback

from benchmarks.measures.private import (
    confidently_contradicted,
    count_of_wrong,
    cross_entropy,
    fit_on,
    fold_list,
    kept_rows,
    normalized_margin,
)

#: Penalties of a linear model's path, beside its own C.
PATH = (0.01, 0.1)


class EachEpoch(Callback):
    """Probabilities of some rows after every epoch."""

    def __init__(self, X: Any):
        self.X = X

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.found_: list = []

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.found_.append(net.predict_proba(self.X))


class Fits:
    """Probabilities of models fitted on some rows, and what CPU seconds they took by name."""

    def __init__(self, model: Any, X: np.ndarray, y: np.ndarray, seed: int):
        self.model, self.X, self.y, self.seed = model, X, y, seed
        self.seconds: Counter = Counter()

    def stages(self, name: str, rows: Any, asked: Any, seed: int, all_stages: bool) -> np.ndarray:
        """Probabilities (n_stages, n_asked, n_classes); the last are the fitted model's."""
        start, model, X = time.process_time(), clone(self.model), self.X[asked]
        if isinstance(model, NeuralNet):
            model.set_params(callbacks=[EachEpoch(X)] if all_stages else None)
        fitted = fit_on(model, self.X, self.y, rows, seed)
        callbacks = [callback for _, callback in getattr(fitted, "callbacks_", [])]
        found = [p for c in callbacks if isinstance(c, EachEpoch) for p in c.found_[:-1]]
        if all_stages and isinstance(model, LogisticRegression):
            path = [clone(model).set_params(C=C * model.C) for C in PATH]
            found = [fit_on(m, self.X, self.y, rows, seed).predict_proba(X) for m in path]
        elif all_stages and hasattr(fitted, "staged_predict_proba"):
            found = list(fitted.staged_predict_proba(X))[:-1]
        found = [*found, fitted.predict_proba(X)]
        self.seconds[name] += time.process_time() - start
        return np.array(found, dtype=np.float64)

    def out_of_fold(self, name: str, keep: np.ndarray, seed: int, all_stages: bool = False):
        whole = None
        for train, test in fold_list(5, self.y, seed, True):
            found = self.stages(name, train[keep[train]], test, seed, all_stages)
            if whole is None:
                whole = np.zeros((len(found), len(self.y), found.shape[2]))
            whole[:, test] = found
        return whole

    def of_all(self, name: str, keep: np.ndarray, seed: int, all_stages: bool = False):
        rows = np.flatnonzero(keep)
        return self.stages(name, rows, np.arange(len(self.y)), seed, all_stages)


def detectors(model: Any, X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, dict]:
    """Scores, suspected rows (None: ranks only) and cost in cross-validations, by detector."""
    fits, every = Fits(model, X, y, seed), np.ones(len(y), dtype=bool)
    plain = fits.of_all("all rows", every, seed, True)
    folds = [fits.out_of_fold("fold 0", every, seed, True)]
    kept, on_kept = [kept_rows(folds[0][-1], y)], []
    for r in range(1, 4):
        folds.append(fits.out_of_fold(f"fold {r}", kept[-1], seed + r))
        kept.append(kept_rows(folds[-1][-1], y))
    for r in range(2):
        on_kept.append(fits.of_all(f"kept {r}", kept[r], seed + r)[-1])
    last = fits.of_all("kept 3", kept[3], seed)[-1]
    rounds = [values[-1] for values in folds]
    before = (np.mean(rounds, axis=0) + plain[-1] + last) / 3
    default = np.mean([*rounds[:2], *on_kept], axis=0)
    stages = {"loss": plain, "out of fold": folds[0]}
    scores = {
        "rounds (default)": cross_entropy(default, y),
        "rounds (before)": cross_entropy(before, y),
        "loss": cross_entropy(plain[-1], y),
        "cleanlab, self-confidence": cross_entropy(rounds[0], y),
        "margin over the training (AUM)": np.mean([normalized_margin(p, y) for p in plain], axis=0),
        **{f"{k} over the training": np.mean([cross_entropy(p, y) for p in v], axis=0)
           for k, v in stages.items()},
        "both over the training": cross_entropy(
            (plain.mean(axis=0) + folds[0].mean(axis=0)) / 2, y
        ),
        "out of fold and kept rows": cross_entropy((rounds[0] + on_kept[0]) / 2, y),
    }  # fmt: skip
    counts = {"rounds (default)": count_of_wrong(default, y),
              "rounds (before)": int(confidently_contradicted(before, y).sum())}  # fmt: skip
    found = {
        name: {"scores": s, "suspected": _first(s, counts[name]) if name in counts else None}
        for name, s in scores.items()
    }
    found["cleanlab, self-confidence"] |= _by_cleanlab(y, rounds[0])
    plain_fit, plain_cv = "kept 0", "fold 1"  # of the same size, without the stages
    parts = {"rounds (default)": (plain_cv, "fold 1", "kept 0", "kept 1"),
             "rounds (before)": (plain_cv, "fold 1", "fold 2", "fold 3", plain_fit, "kept 3"),
             "out of fold and kept rows": (plain_cv, "kept 0"), "loss": (plain_fit,),
             "cleanlab, self-confidence": (plain_cv,),
             "both over the training": ("fold 0", "all rows"),
             "out of fold over the training": ("fold 0",)}  # fmt: skip
    for name, row in found.items():
        spent = sum(fits.seconds[part] for part in parts.get(name, ("all rows",)))
        row["cost"] = spent / max(fits.seconds[plain_cv], 1e-9)
    return found


def judged(found: dict[str, dict], flipped: np.ndarray) -> list[dict]:
    """AUC and precision at the true count; of what counts also the ratio of counts and F1."""
    rows = []
    for name, of in found.items():
        first = np.argsort(-of["scores"], kind="stable")[: flipped.sum()]
        row = {"detector": name, "auc": float(roc_auc_score(flipped, of["scores"])),
               "precision": float(flipped[first].mean()), "cost": of["cost"]}  # fmt: skip
        if of["suspected"] is not None:
            row["ratio"] = float(of["suspected"].sum() / flipped.sum())
            row["f1"] = float(f1_score(flipped, of["suspected"], zero_division=0))
        rows.append(row)
    return rows


def _first(scores: np.ndarray, count: int) -> np.ndarray:
    suspected = np.zeros(len(scores), dtype=bool)
    suspected[np.argsort(-scores, kind="stable")[:count]] = True
    return suspected


def _by_cleanlab(y: np.ndarray, probabilities: np.ndarray) -> dict:
    """Cleanlab's own ranking and rows; without cleanlab the same ranking and no rows."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return {}
    quality = get_label_quality_scores(y, probabilities, method="self_confidence")
    issues = find_label_issues(y, probabilities, n_jobs=1)
    return {"scores": -np.asarray(quality, dtype=np.float64), "suspected": np.asarray(issues)}
