"""TreeInfluence against real retraining: subsets (LDS) and single rows, beside plain baselines.

Usage::

    python benchmarks/trees.py                     # all tables and libraries that are installed
    python benchmarks/trees.py --tables diabetes wine --models hist forest
    python benchmarks/trees.py --structure         # what refitted leaves alone explain
    python benchmarks/trees.py --speed             # time and memory at n = 10,000 and 100,000

``INFLUENCEKIT_DATA`` adds Concrete and ACSIncome.  Every cell retrains the model on random halves
of the training rows and without single rows, all with the model's own seed, and compares the
negative loss of held-out rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import resource
import time
import warnings

import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from influencekit import TreeInfluence
from influencekit.attributors.trees._objectives import base_score
from influencekit.attributors.trees._replay import Replay
from influencekit.attributors.trees._rows import leaves_of
from influencekit.datasets import fetch_acs_income, fetch_uci_concrete
from influencekit.metrics import linear_datamodeling_score
from influencekit.models import tree_task

METHODS = ("auto", "leaf", "boostin", "axil", "kernel")
BASELINES = ("same label", "leaf kernel", "random")


def tables():
    """Name to a function that gives X, y."""
    found = {
        "diabetes": lambda: load_diabetes(return_X_y=True),
        "breast cancer": lambda: load_breast_cancer(return_X_y=True),
        "wine": lambda: load_wine(return_X_y=True),
        "digits 3 5 8 9": four_digits,
    }
    if os.environ.get("INFLUENCEKIT_DATA"):
        found["concrete"] = lambda: fetch_uci_concrete(return_X_y=True)
        found["income"] = lambda: fetch_acs_income(return_X_y=True)
    return found


def four_digits():
    X, y = load_digits(return_X_y=True)
    chosen = np.isin(y, (3, 5, 8, 9))
    return X[chosen], np.unique(y[chosen], return_inverse=True)[1]


def models():
    """Name to a pair of unfitted models, for classes and for numbers."""
    one = {"random_state": 0}
    few = {"max_iter": 50, "max_leaf_nodes": 15, "early_stopping": False}
    found = {
        "hist": (
            HistGradientBoostingClassifier(**few, **one),
            HistGradientBoostingRegressor(**few, **one),
        ),
        "gradient": (
            GradientBoostingClassifier(n_estimators=50, **one),
            GradientBoostingRegressor(n_estimators=50, **one),
        ),
        "forest": (RandomForestClassifier(100, **one), RandomForestRegressor(100, **one)),
        "extra": (ExtraTreesClassifier(100, **one), ExtraTreesRegressor(100, **one)),
    }
    if importlib.util.find_spec("xgboost"):
        from xgboost import XGBClassifier, XGBRegressor

        few = {"n_estimators": 50, "max_depth": 4, "learning_rate": 0.1, "n_jobs": 1}
        found["xgboost"] = (XGBClassifier(**few, **one), XGBRegressor(**few, **one))
        few["subsample"] = 0.7
        found["xgboost sampled"] = (XGBClassifier(**few, **one), XGBRegressor(**few, **one))
    if importlib.util.find_spec("lightgbm"):
        from lightgbm import LGBMClassifier, LGBMRegressor

        few = {"n_estimators": 50, "num_leaves": 15, "n_jobs": 1, "verbose": -1}
        found["lightgbm"] = (LGBMClassifier(**few, **one), LGBMRegressor(**few, **one))
    return found


def split(X, y, n_train, n_query):
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y)
    if y.dtype.kind not in "iu" and len(np.unique(y)) < 3:
        y = (y == y.max()).astype(int)
    y = y / y.std() if y.dtype.kind == "f" else y
    order = np.random.default_rng(0).permutation(len(X))
    train, query = order[: min(n_train, int(0.75 * len(X)))], order[-n_query:]
    return X[train], y[train], X[query], y[query]


def explained(model, Q, u):
    """Negative loss of every query."""
    if not hasattr(model, "classes_"):
        return -0.5 * (model.predict(Q) - u) ** 2
    share = model.predict_proba(Q)[np.arange(len(u)), np.searchsorted(model.classes_, u)]
    floor = 0.5 / len(model.estimators_) if type(model).__module__.endswith("_forest") else 1e-12
    return np.log(np.maximum(share, floor))


def retrained(model, X, y, Q, u, masks):
    """Outputs (n_masks, n_query) of the model trained on subsets."""
    return np.stack([explained(clone(model).fit(X[m], y[m]), Q, u) for m in masks])


def scores_of(name, model, X, y, Q, u):
    """Scores (n_query, n_train) of a method or baseline; None where it does not apply."""
    classes = hasattr(model, "classes_")
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


def cell(model, X, y, Q, u, n_subsets, n_left_out):
    """LDS of every method, and correlation and slope of "auto" with single removals."""
    rng, n = np.random.default_rng(1), len(X)
    masks = np.zeros((n_subsets, n), dtype=bool)
    for mask in masks:
        mask[rng.permutation(n)[: n // 2]] = True
    outputs = retrained(model, X, y, Q, u, masks)
    rows = rng.permutation(n)[:n_left_out]
    full = clone(model).fit(X, y)
    effects = explained(full, Q, u) - retrained(model, X, y, Q, u, ~np.eye(n, dtype=bool)[rows])
    found = {}
    for name in (*METHODS, *BASELINES):
        scores = scores_of(name, full, X, y, Q, u)
        if scores is None or np.abs(scores).max() < 1e-12:  # pure leaves do not move
            continue
        lds = linear_datamodeling_score(outputs, masks, scores).mean
        alone = scores[:, rows].T
        pairs = zip(alone.T, effects.T, strict=True)
        r = [np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() > 0 and b.std() > 0]
        slope = (alone * effects).sum() / max((effects**2).sum(), 1e-300)
        found[name] = (lds, np.mean(r) if r else 0.0, slope)
    return found


def quality(args):
    chosen = {k: v for k, v in tables().items() if not args.tables or k in args.tables}
    wanted = args.models or [name for name in models() if "sampled" not in name]
    kinds = {k: v for k, v in models().items() if k in wanted}
    print("table | model | " + " | ".join((*METHODS, *BASELINES)), flush=True)
    cells = []
    for table, read in chosen.items():
        X, y, Q, u = split(*read(), args.n_train, args.n_query)
        for kind, (classifier, regressor) in kinds.items():
            model = regressor if y.dtype.kind == "f" else classifier
            found = cell(model, X, y, Q, u, args.n_subsets, args.n_left_out)
            cells.append(found)
            texts = [
                "{:.3f} ({:.2f}, {:.2f})".format(*found[name]) if name in found else "-"
                for name in (*METHODS, *BASELINES)
            ]
            print(f"{table} | {kind} | " + " | ".join(texts), flush=True)
    summary(cells)


def summary(cells):
    for name in (*METHODS, *BASELINES):
        values = [found[name] for found in cells if name in found]
        if values:
            print(
                f"mean of {len(values)} cells, {name}: LDS, r, slope {np.mean(values, 0).round(3)}"
            )
    for name in BASELINES[:2]:
        gains = np.array([found["auto"][0] - found[name][0] for found in cells])
        print(
            f"auto above {name}: {gains.mean():+.3f} LDS in the mean, by .03 or more in "
            f"{(gains >= 0.03).sum()} of {len(gains)} cells"
        )


def refitted(model, X, y, Q, u, masks):
    """Outputs (n_masks, n_query) of the fitted trees with leaf values refitted on subsets."""
    influence = TreeInfluence("leaf").fit(model, X, y)
    fitted, task = influence.fitted_[0], influence.task_
    queries = influence._queries(Q, u)
    found, leaves = [], leaves_of(queries)
    for mask in masks * 1.0:
        whole = fitted.replay
        start = base_score(whole.base_rule, mask, whole.targets)
        trees = dataclasses.replace(whole.trees, base=start)
        done = Replay(trees, whole.leaves, whole.targets, mask, mask)
        scores = np.tile(start, (len(u), 1))
        for tree, step in enumerate(done.steps):
            scores[:, done.trees.outputs[tree]] += done.trees.rate * step[leaves[tree]]
        found.append(-task.loss(torch.as_tensor(scores), queries.targets).numpy())
    return np.stack(found)


def structure(args):
    """How far retraining agrees with refitting the leaves only, on halves and without a row."""
    print("table | halves: r, share of variance | single rows: r, share of variance")
    for table, read in tables().items():
        if args.tables and table not in args.tables:
            continue
        X, y, Q, u = split(*read(), args.n_train, args.n_query)
        model = models()["hist"][int(y.dtype.kind == "f")]
        full, rng, n = clone(model).fit(X, y), np.random.default_rng(1), len(X)
        halves = np.array([rng.permutation(n) < n // 2 for _ in range(args.n_subsets)])
        single = ~np.eye(n, dtype=bool)[rng.permutation(n)[: args.n_left_out]]
        texts = []
        for masks in (halves, single):
            real, held = retrained(model, X, y, Q, u, masks), refitted(full, X, y, Q, u, masks)
            pairs = zip(real.T, held.T, strict=True)
            r = [np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() > 0 and b.std() > 0]
            texts.append(f"{np.mean(r):.2f}, {(held.var(0).sum() / real.var(0).sum()):.2f}")
        print(f"{table} | " + " | ".join(texts), flush=True)


def speed():
    """Time and peak memory of fit and of 100 queries, 200 trees of 31 leaves."""
    for n in (10_000, 100_000):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, 20))
        y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + X[:, 3] + rng.normal(size=n)
        model = HistGradientBoostingRegressor(max_iter=200, early_stopping=False).fit(X, y)
        clock, cpu = time.perf_counter(), time.process_time()
        influence = TreeInfluence(n_jobs=2, max_memory="1GB").fit(model, X, y)
        influence.score(X[:100] + 0.01, y[:100])
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"n = {n:,}: {clock:.1f} s ({cpu:.1f} s of CPU), peak of the process {peak:.2f} GB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", nargs="*")
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--n-train", type=int, default=300)
    parser.add_argument("--n-query", type=int, default=30)
    parser.add_argument("--n-subsets", type=int, default=40)
    parser.add_argument("--n-left-out", type=int, default=25)
    parser.add_argument("--structure", action="store_true")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.speed:
        speed()
    elif args.structure:
        structure(args)
    else:
        quality(args)


if __name__ == "__main__":
    main()
