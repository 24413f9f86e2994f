"""Is no damping right for linear models, on tables as they come and standardized?

The linear datamodeling score (LDS) of ``InfluenceFunction()`` at its default damping, at the best
of 37 dampings and at 0; and the Pearson correlation and the slope of its scores beside
leave-one-out refits.  The reference is scikit-learn alone: models fitted without the library.
"""

import numpy as np
from sklearn.base import clone, is_classifier

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import number, short
from benchmarks.measures.refits import halves, refitted, row_means
from benchmarks.problems.linear_tables import CLASSES, COUNTS, MODELS, NUMBERS, split
from influencekit import InfluenceFunction
from influencekit.metrics import PreparedOutputs


def outputs(model, Q, u):
    """Log-probability of the label, or the prediction."""
    if is_classifier(model):
        return model.predict_log_proba(Q)[np.arange(len(u)), np.searchsorted(model.classes_, u)]
    return model.predict(Q)


def row(table, model, prepared, n_train, n_query, n_subsets, n_left_out, n_grid):
    rng, model = np.random.default_rng(0), MODELS[model]
    X, y, Q, u = data = split(table, prepared, n_train, n_query, rng)
    masks = halves(len(X), n_subsets, rng)
    if is_classifier(model):
        masks = np.stack([m for m in masks if len(np.unique(y[m])) == len(np.unique(y))])
    truth = PreparedOutputs(refitted(model, *data, masks, outputs))
    fitted = clone(model).fit(X, y)
    left_out = rng.choice(len(X), min(n_left_out, len(X)), replace=False)
    alone = refitted(model, *data, ~np.eye(len(X), dtype=bool)[left_out], outputs)
    effects = outputs(fitted, Q, u)[:, None] - alone.T
    output = "auto" if is_classifier(model) else "prediction"
    influence = InfluenceFunction(output=output).fit(fitted, X, y)
    path, own = influence.damping_path(Q, u), influence.score(Q, u)
    grid = np.r_[0.0, np.geomspace(1e-11, 10, n_grid) * influence.eigenvalues_.max()]
    lds = [truth.score(path.scores(d) @ masks.T).mean for d in grid]
    default, chosen = truth.score(own @ masks.T).mean, own[:, left_out]
    return {
        "damping": influence.damping_, "best damping": grid[int(np.argmax(lds))],
        "default": default, "best": max(default, *lds), "zero": lds[0],
        "pearson": row_means(chosen, effects),
        "pearson at zero": row_means(path.scores(0.0)[:, left_out], effects),
        "slope": (chosen * effects).sum() / (effects**2).sum(),
    }  # fmt: skip


def tables(rows):
    keys = ("default", "best", "zero", "pearson", "pearson at zero", "slope")
    lines = [[r["table"], r["model"], "standardized" if r["prepared"] else "as it comes",
              number(r["damping"]), *(short(r[key], 3) for key in keys)] for r in rows]  # fmt: skip
    share = [r["default"] / r["best"] for r in rows]
    pearson = [r["pearson"] for r in rows]
    fails = [r for r in rows if r["pearson"] < min(0.95, r["pearson at zero"] - 0.01)]
    over = [["share of the best LDS", short(np.median(share), 4), short(min(share), 3)],
            ["Pearson with refits", short(np.median(pearson), 4), short(min(pearson), 3)],
            ["cells below .95 and .01 below no damping", "–", str(len(fails))]]  # fmt: skip
    return {"cells": Table(["table", "model", "columns", "damping", *keys], lines, 3),
            "over all": Table(["of the default", "median", "worst"], over)}  # fmt: skip


PREPARED = {"prepared": [False, True]}
STUDY = Study(
    __doc__, row,
    [{"table": list(CLASSES), "model": ["logistic"], **PREPARED},
     {"table": list(NUMBERS), "model": ["least squares", "ridge"], **PREPARED},
     {"table": list(COUNTS), "model": ["least squares", "poisson"], **PREPARED}],
    {"n_train": 600, "n_query": 40, "n_subsets": 50, "n_left_out": 30, "n_grid": 36},
    quick=Size([{"table": ["iris"], "model": ["logistic"], **PREPARED},
                {"table": ["diabetes"], "model": ["ridge"], "prepared": [True]}],
               {"n_train": 60, "n_query": 10, "n_subsets": 6, "n_left_out": 5, "n_grid": 4}),
    tables=tables, needs=("acs_income_2018", "uci_concrete"),
)  # fmt: skip
