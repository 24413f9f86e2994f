"""Which method agrees with further training, and after how much of it?

The fitted model is trained further with and without each of some training rows (the gold standard),
and every method's scores are compared with what happened: cosine per test row, mean and standard
error, with the noise ceiling of the gold standard itself.  Scores that do not depend on the further
training are computed once for both optimizers.
"""

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
    found, seeds = {}, {}
    for data in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == data and "cosine" in r]
        cells = {(r["method"], r["optimizer"], h): short(v) for r in own
                 for h, v in zip(r["horizons"], r["cosine"], strict=True)}  # fmt: skip
        tops = {("noise ceiling", r["optimizer"], h): further.allowed(v) for r in own
                for h, v in zip(r["horizons"], r["ceiling"], strict=True)}  # fmt: skip
        found[data] = _wide(cells | tops)
        seeds |= {(r["method"], r["optimizer"], n): short(v) for r in rows
                  if r["data"] == data == "concrete" and "by_seeds" in r
                  for n, v in zip(r["n_repeats"], r["by_seeds"], strict=True)}  # fmt: skip
    return {**found, "seeds": _wide(seeds)} if seeds else found


def _wide(cells):
    """A line for each method, a column for each optimizer and number."""
    columns = dict.fromkeys(key[1:] for key in cells)
    lines = [[name, *(cells.get((name, *column), "–") for column in columns)]
             for name in dict.fromkeys(key[0] for key in cells)]  # fmt: skip
    return Table(["", *(f"{NAMES[o]}, {number}" for o, number in columns)], lines)


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
