"""Which method agrees with further training, and after how much of it?

The fitted model is trained further with and without each of some training rows (the gold standard),
and every method's scores are compared with what happened: cosine per test row, mean and standard
error, with the noise ceiling of the gold standard itself.  Scores that do not depend on the further
training are computed once for both optimizers.
"""

import numpy as np

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import further

NAMES = {"sgd": "SGD", "adam": "Adam"}
#: problem: horizons, seeds
AMOUNTS = {"concrete": ([1, 5, 20], 20), "cifar2": ([1, 3], 4), "sst2": ([1, 3, 10], 4),
           "acs-ma": ([1, 2, 5], 4), "acs-ca": ([1, 3], 2)}  # fmt: skip


def row(data, optimizers, horizons, n_repeats, n_left_out, n_test, wanted, epochs):
    problem = problems.load(f"further/{data}", 0, None, n_test)
    if epochs:
        problem.model.set_params(max_epochs=epochs)
    more, net = problem.spec.more, problem.fit()
    amounts = AMOUNTS.get(data, (horizons, n_repeats))
    horizons, n_repeats = horizons or amounts[0], n_repeats or amounts[1]
    rows, known = [], {}
    for optimizer in optimizers.split():
        options = {"lr": more["rates"][optimizer], "left_out": n_left_out or more["n_left_out"]}
        gold = further.gold(optimizer, horizons=horizons, n_repeats=n_repeats, random_state=0,
                            **options)  # fmt: skip
        measured, picked = gold.fit(net, *problem.train).measure(*problem.test), {}
        makers = further.methods(problem, net, optimizer, options, more["curvature"])
        for method in wanted or makers:
            found, scores = further.judged(makers[method], measured, net, problem, known)
            rows.append({"optimizer": optimizer, "method": method, **found})
            picked |= {} if scores is None else {method: scores}
        sizes, best = further.seed_curve(gold, picked, problem.test)
        rows += [{"optimizer": optimizer, "method": name, "n_repeats": sizes,
                  "by_seeds": list(values)} for name, values in best.items()]  # fmt: skip
    return rows


def tables(rows):
    found = {}
    for data in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == data and "cosine" in r]
        columns = [(r["optimizer"], h) for r in {r["optimizer"]: r for r in own}.values()
                   for h in r["horizons"]]  # fmt: skip
        cells = {(r["method"], r["optimizer"], h): pair for r in own for h, *pair in
                 zip(r["horizons"], r["cosine"], r["ceiling"], strict=True)}  # fmt: skip
        names = dict.fromkeys(r["method"] for r in own)
        lines = [[n, *(short(cells[n, *c][0]) if (n, *c) in cells else "–" for c in columns)]
                 for n in names]  # fmt: skip
        tops = {key[1:]: ceiling for key, (_, ceiling) in cells.items()}
        lines.append(["noise ceiling", *(further.allowed(tops[c]) for c in columns)])
        found[data] = Table(["", *(f"{NAMES[o]}, {h}" for o, h in columns)], lines)
    seeds = [[r["data"], r["optimizer"], r["method"],
              ", ".join(f"{n}: {v:.2f}"
                        for n, v in zip(r["n_repeats"], r["by_seeds"], strict=True))]
             for r in rows if r.get("by_seeds") and np.ndim(r["by_seeds"]) == 1]  # fmt: skip
    return {
        **found,
        "seeds": Table(["data", "optimizer", "method", "best cosine by seeds"], seeds, 4),
    }


STUDY = Study(
    __doc__, row,
    [{"data": ["concrete", "sst2", "acs-ma", "cifar2"], "optimizers": ["sgd adam"]},
     {"data": ["acs-ca"], "optimizers": ["sgd"]}],
    {"horizons": None, "n_repeats": None, "n_left_out": None, "n_test": 100, "wanted": None,
     "epochs": None},
    quick=Size({"data": ["diabetes"], "optimizers": ["sgd"]},
               {"horizons": [1], "n_repeats": 2, "n_left_out": 3, "n_test": 5, "epochs": 2,
                "wanted": ["GradDot", "GGN, matched λ"]}),
    tables=tables, needs=("uci_concrete", "cifar2", "sst2", "acs_income_2018"),
)  # fmt: skip
