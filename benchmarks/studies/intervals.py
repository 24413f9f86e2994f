"""Do intervals of scores hold what refits on fresh samples say, and what is found in pure noise?

A row's 90% interval is to hold the change between models of another sample with and without it.
"""

import warnings

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import scale

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.problems.linear_tables import CLASSES, COUNTS, MODELS, NUMBERS
from benchmarks.studies.convex_tables import outputs
from influencekit import InfluenceFunction

NOISE, Q90 = "ten nets on labels of noise", 1.6448536
KEYS, SPANS = ("held", "plain", "apart", "error"), (np.median, np.min, np.max)
CELLS = ["table", "model", "order", "held", "held without √2", "without 0", "standard error"]
OVER = ["cells", "from .85 to .95", "held, median", "held, least", "held, largest"]


def row(table, model, order, n_train, n_query, n_samples, n_rows):
    X, y = (CLASSES | NUMBERS | COUNTS)[table](return_X_y=True)
    X, n = scale(X), min(n_train, (len(X) - n_query) // 2)
    if model == NOISE:
        return noise(X, n, n_query, 10)
    model, found, rng = MODELS[model], [], np.random.default_rng(0)
    for sample, rows in enumerate(rng.permutation(len(X)) for _ in range(n_samples)):
        query, own, fresh = rows[:n_query], rows[n_query:][:n], rows[n_query + n :][: n - 1]
        if is_classifier(model) and len(np.unique(y[fresh])) < len(np.unique(y)):
            continue
        Q, u, picked = X[query], y[query], rng.choice(n, min(n_rows, n), replace=False)
        output = "auto" if is_classifier(model) else "prediction"
        influence = InfluenceFunction(removal_order=order, output=output, random_state=sample)
        influence.fit(clone(model).fit(X[own], y[own]), X[own], y[own])
        scores, stds = (a[:, picked] for a in influence.score(Q, u, return_std=True))
        samples = [fresh, *(np.append(fresh, j) for j in own[picked])]
        refits = np.stack([outputs(clone(model).fit(X[m], y[m]), Q, u) for m in samples], 1)
        ratios = np.abs(refits[:, 1:] - refits[:, :1] - scores) / stds / Q90
        apart = np.abs(scores) > Q90 * np.sqrt(2) * stds
        found.append([(ratios <= np.sqrt(2)).mean(), (ratios <= 1).mean(), apart.mean()])
    means, error = np.mean(found, 0), np.std(found, 0, ddof=1)[0] / np.sqrt(len(found))
    return dict(zip(KEYS, [*means, error], strict=True)) | {"samples": len(found)}


def noise(X, n, n_query, n_models):
    y = np.random.default_rng(0).integers(0, 2, n)
    nets = [MLPClassifier((8,), alpha=0.1, random_state=seed) for seed in range(n_models)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nets = [net.fit(X[:n], y) for net in nets]
        influence = InfluenceFunction(output="margin").fit(nets, X[:n], y)
        found = influence.top_k(X[n:][:n_query], k=n, as_frame=True, interval=0.9)
    return {"significant": found["significant"].mean(), "samples": n_models,
            "apart": 1 - found["holds_zero"].mean()}  # fmt: skip


def tables(rows):
    linear, nets = [r for r in rows if "held" in r], [r for r in rows if "held" not in r]
    lines = [[r["table"], r["model"], r["order"], *(short(r[k], 3) for k in KEYS)] for r in linear]
    held, within = [r["held"] for r in linear], sum(0.85 <= r["held"] <= 0.95 for r in linear)
    sums = [str(len(held)), str(within), *(short(f(held), 3) for f in SPANS)]
    said = [[str(r["samples"]), short(r["significant"], 3), short(r["apart"], 3)] for r in nets]
    found = {"cells": Table(CELLS, lines, 3), "over cells": Table(OVER, [sums], 0)}
    return found | {"noise": Table(["nets", "significant", "intervals without 0"], said, 0)}


USED = ["breast cancer", "wine", "iris", "income, codes", "fair"]
GRID = [(USED, "logistic"), (list(NUMBERS), "ridge"), (list(COUNTS), "poisson")]
STUDY = Study(
    __doc__, row, [*({"table": t, "model": [m], "order": ["first", "newton"]} for t, m in GRID),
                   {"table": ["breast cancer"], "model": [NOISE], "order": ["first"]}],
    {"n_train": 150, "n_query": 10, "n_samples": 6, "n_rows": 12},
    quick=Size([{"table": ["iris"], "model": ["logistic", NOISE], "order": ["first"]}],
               {"n_train": 50, "n_query": 3, "n_samples": 2, "n_rows": 3}),
    tables=tables, needs=("acs_income_2018", "uci_concrete"),
)  # fmt: skip
