"""How well do scores of tree models predict retraining, and how much of it is the leaves'?

Models with their own seed are trained again on random halves of the rows (LDS) and without single
rows (correlation, mean over held-out rows); the negative loss of held-out rows is explained.
"structure" keeps the trees, fits their leaf values again on the same subsets, and compares that
with retraining.  "cost" is that of ``fit`` and 100 queries with 200 trees of 31 leaves.
"""

import numpy as np
from sklearn.base import clone

from benchmarks.harness import Size, Study, Table, cost_of
from benchmarks.harness.tables import of, short
from benchmarks.measures.refits import halves, refitted
from benchmarks.measures.trees import BASELINES, METHODS, explained, of_leaves, qualities
from benchmarks.problems import trees
from influencekit import TreeInfluence


def row(part, model, n_train, n_query, n_subsets, n_left_out, table=None, n=None):
    if n:
        return cost(model, n)
    X, y, Q, u = data = trees.split(table, n_train, n_query)
    new, rng, n = trees.model(model, y.dtype.kind != "f"), np.random.default_rng(1), len(X)
    masks = halves(n, n_subsets, rng)
    alone = rng.permutation(n)[:n_left_out]
    without, full = ~np.eye(n, dtype=bool)[alone], clone(new).fit(X, y)
    outputs, single = (refitted(new, *data, m, explained) for m in (masks, without))
    if part == "structure":
        found = {"halves": of_leaves(full, data, masks, outputs),
                 "single rows": of_leaves(full, data, without, single)}  # fmt: skip
        return {f"{kind}, {what}": value for kind, pair in found.items()
                for what, value in zip(("r", "share"), pair, strict=True)}  # fmt: skip
    return qualities(full, data, masks, outputs, alone, (explained(full, Q, u) - single).T)


def cost(name, n):
    X, y = trees.made(n)
    new = trees.model(name, False, max_iter=200, max_leaf_nodes=31)
    model, influence = new.fit(X, y), TreeInfluence(n_jobs=2, max_memory="1GB")
    used, _ = cost_of(lambda: influence.fit(model, X, y).score(X[:100] + 0.01, y[:100]))
    return {"fit and score": used["seconds"], "CPU": used["cpu_seconds"], "MB": used["peak_mb"]}


def tables(rows):
    ways, found = (*METHODS, *BASELINES), {}
    own = [r for r in rows if r["part"] == "quality"]
    for name, suffix in (("LDS", ""), ("single rows", ", rows"), ("slope", ", slope")):
        lines = []
        for model in dict.fromkeys(r["model"] for r in own):
            of_it = [of([r for r in own if r["model"] == model], w + suffix) for w in ways]
            lines.append([model, *(short(np.mean(v)) if v else "" for v in of_it)])
        found[name] = Table(["model", *ways], lines)
    gains = [r["auto"] - max(r[b] for b in BASELINES[:2]) for r in own]
    counts = [str(sum(gain >= 0.03 for gain in gains)), str(len(gains))]
    found["auto above both"] = Table(["by .03 or more", "cells"], [counts])
    for part, axis in (("structure", "table"), ("cost", "n")):
        own = [r for r in rows if r["part"] == part]
        keys = [k for k in (own[0] if own else {}) if k not in ("part", "model", axis)]
        lines = [[str(r[axis]), *(short(r[k]) for k in keys)] for r in own]
        found[part] = Table([axis, *keys], lines)
    return found


ON = {"table": list(trees.TABLES)}
STUDY = Study(
    __doc__, row,
    [{"part": ["quality"], "model": [m for m in trees.MODELS if "sampled" not in m], **ON},
     {"part": ["quality"], "model": ["XGBoost sampled"],
      "table": ["diabetes", "income", "Concrete"]},
     {"part": ["structure"], "model": ["HistGradientBoosting"], **ON},
     {"part": ["cost"], "model": ["HistGradientBoosting"], "n": [10_000, 100_000]}],
    {"n_train": 300, "n_query": 30, "n_subsets": 40, "n_left_out": 25},
    quick=Size([{"part": ["quality", "structure"], "model": ["HistGradientBoosting"],
                 "table": ["diabetes"]},
                {"part": ["cost"], "model": ["HistGradientBoosting"], "n": [300]}],
               {"n_train": 40, "n_query": 4, "n_subsets": 5, "n_left_out": 3}),
    tables=tables, needs=("acs_income_2018", "uci_concrete"),
    environment=lambda c: None if trees.MODELS[c["model"]][0] == "sklearn" else "tools",
)  # fmt: skip
