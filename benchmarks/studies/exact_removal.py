"""How near are predicted removals to refits: first order, leverage, one Newton step, its bound?

Slopes are of predicted on refitted changes of each query's output, Spearman's correlation is of
their means over queries; the bound is that of ``predict_without(refit=False)``.
"""

import numpy as np
from scipy.stats import spearmanr
from sklearn.base import clone, is_classifier

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures.refits import bound_tables, labeled
from benchmarks.problems.linear_tables import CLASSES, COUNTS, MODELS, NUMBERS, split
from benchmarks.studies.convex_tables import outputs
from influencekit import InfluenceFunction
from influencekit.groups import GroupAttributor

ORDERS, WORDS = ("first", "leverage", "newton"), ("slope", "spearman")
SPANS = (np.median, np.min, np.max)
OVER = ["removed", "order", *(f"{w}, {f}" for w in WORDS for f in ("median", "least", "largest"))]


def responses(model, Q):
    return model.predict_proba(Q) if is_classifier(model) else model.predict(Q)


def row(table, model, prepared, kind, n_train, n_query, n_rows):
    rng, model = np.random.default_rng(0), MODELS[model]
    X, y, Q, u = split(table, prepared, n_train, n_query, rng)
    fitted = clone(model).fit(X, y)
    influence = InfluenceFunction(output="auto" if is_classifier(model) else "prediction")
    base = influence.fit(fitted, X, y)
    labels = labeled(kind, base.score(Q, u).mean(0), n_rows, rng)
    used = [g for g in range(labels.max() + (kind == "groups")) if not is_classifier(model)
            or len(np.unique(y[labels != g])) == len(np.unique(y))]  # fmt: skip
    refits = [clone(model).fit(X[labels != g], y[labels != g]) for g in used]
    effects = np.stack([outputs(fitted, Q, u) - outputs(m, Q, u) for m in refits], 1)
    found, checked = {}, []
    for order in ORDERS:
        by_group = GroupAttributor(influence, removal_order=order)
        scores = by_group.fit(fitted, X, y, groups=labels).score(Q, u)[:, used]
        found[f"slope {order}"] = (scores * effects).sum() / (effects**2).sum()
        found[f"spearman {order}"] = spearmanr(scores.mean(0), effects.mean(0)).statistic
    for g, m in zip(used, refits, strict=True):
        step, truth = base.predict_without(labels == g, Q, refit=False), responses(m, Q)
        error = np.abs(step.outputs - truth)
        effect = np.abs(truth - responses(fitted, Q)).max()
        checked.append([error.max(), step.bound.max(), effect, (error - step.bound).max()])
    error, bound, effect, excess = np.array(checked).T
    small = (error < 0.05 * effect) & (error > 1e-7 * (1 + effect))  # above a refit's rounding
    return {**found, "n": len(used), "below": int((excess > 1e-7 * (1 + effect)).sum()),
            "times": float(np.median((bound / error)[small])) if small.any() else None,
            "refits": int((bound > 0.05 * effect).sum())}  # fmt: skip


def tables(rows):
    head = [f"{w}, {o}" for w in ("slope", "Spearman") for o in ORDERS]
    lines = [[r["table"], r["model"], "standardized" if r["prepared"] else "as it comes", r["kind"],
              *(short(r[f"{w} {o}"], 3) for w in WORDS for o in ORDERS)] for r in rows]  # fmt: skip
    over = [[kind, o, *(short(f([r[f"{w} {o}"] for r in rows if r["kind"] == kind]), 3)
             for w in WORDS for f in SPANS)] for kind in AXES["kind"] for o in ORDERS]  # fmt: skip
    return {"cells": Table(["table", "model", "columns", "removed", *head], lines, 4),
            "over cells": Table(OVER, over, 2)} | bound_tables(rows)  # fmt: skip


AXES = {"prepared": [False, True], "kind": ["rows", "groups", "helpful"]}
STUDY = Study(
    __doc__, row,
    [{"table": list(CLASSES), "model": ["logistic"], **AXES},
     {"table": list(NUMBERS), "model": ["ridge"], **AXES},
     {"table": list(COUNTS), "model": ["poisson"], **AXES}],
    {"n_train": 600, "n_query": 40, "n_rows": 80},
    quick=Size([{"table": ["iris"], "model": ["logistic"], **AXES}],
               {"n_train": 60, "n_query": 10, "n_rows": 5}),
    tables=tables, needs=("acs_income_2018", "uci_concrete"),
)  # fmt: skip
