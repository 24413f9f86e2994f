"""How many trainings do values need to predict retraining as well as influence functions?

LDS against held-out random halves.  "nets" are skorch nets on tables that come with scikit-learn,
beside InfluenceFunction; "trees" are forests and boosted trees beside TreeInfluence.  "seconds" are
those of fit and score of that influence, and of one training.  Datamodel and Banzhaf learn from the
same trainings; values of fewer are those of the first ones.
"""

import time

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import of, short
from benchmarks.measures.values import first_of, loaded
from influencekit import retrain_on_subsets
from influencekit.metrics import linear_datamodeling_score
from influencekit.values import Banzhaf, Datamodel, Shapley

NETS = [f"{n}, MLP" for n in ("breast cancer", "wine", "iris", "diabetes")]


def row(part, model, seed, n_trainings, n_subsets, n_query, table=None):
    model, data, free = loaded(model, table, seed, n_query)
    train, queries = data[:2], {"X_query": data[2], "y_query": data[3]}
    truth = retrain_on_subsets(model, *data, n_subsets=n_subsets, random_state=1000 + seed)

    def lds(values):
        scores = values.score(*data[2:])
        return float(linear_datamodeling_score(truth.outputs, truth.masks, scores).mean)

    found, most = [], max(n_trainings)
    for values in free:
        start = time.perf_counter()
        found.append({"value": type(values).__name__, "LDS": lds(values.fit(model, *train))})
        found[-1]["seconds"] = time.perf_counter() - start
    start = time.perf_counter()
    halves = Datamodel(n_trainings=most, random_state=seed).fit(model, *train, **queries)
    seconds = (time.perf_counter() - start) / most
    kept = {Datamodel: halves.subset_outputs_, Banzhaf: halves.subset_outputs_}
    if part == "nets":
        made = Shapley(n_trainings=most + 1, random_state=seed).fit(model, *train, **queries)
        kept[Shapley] = made.subset_outputs_
    for kind, of_it in kept.items():
        found.append({"value": kind.__name__, "seconds": seconds})
        for n in n_trainings:
            some = first_of(of_it, n + (kind is Shapley))
            found[-1][f"LDS {n}"] = lds(kind().fit(model, *train, **queries, subset_outputs=some))
    return found


def tables(rows):
    found, numbers = {}, [key for key in dict.fromkeys(k for r in rows for k in r) if "LDS " in key]
    for part, places in (("nets", ["model"]), ("trees", ["model", "table"])):
        lines = {}
        for r in rows:
            if r["part"] == part:
                lines.setdefault((*(r[p] for p in places), r["value"]), []).append(r)
        cells = {p: [of(own, key) for key in ("LDS", *numbers)] for p, own in lines.items()}
        means = [[*p, *(short(np.mean(c)) if c else "" for c in cells[p]),
                  short(np.mean(of(lines[p], "seconds")), 3)] for p in lines]  # fmt: skip
        numbered = [key.removeprefix("LDS ") for key in numbers]
        found[part] = Table([*places, "value", "no training", *numbered, "seconds"], means)
    return found


STUDY = Study(
    __doc__, row,
    [{"part": ["nets"], "model": NETS, "seed": [0]},
     {"part": ["trees"], "model": ["HistGradientBoosting", "RandomForest"],
      "table": ["diabetes", "wine", "breast cancer"], "seed": [0]}],
    {"n_trainings": [20, 50, 100, 200], "n_subsets": 40, "n_query": 30},
    quick=Size({"part": ["trees"], "model": ["RandomForest"], "table": ["wine"], "seed": [0]},
               {"n_trainings": [4, 6], "n_subsets": 4, "n_query": 5}),
    tables=tables,
)  # fmt: skip
