"""Is the λ of the best LDS also the best one for what scores are used for?

Over λ, in units of the curvature's largest eigenvalue: the LDS; the accuracy after the rows that
help the test rows most were removed and the model trained again (lower is better); and the AUC
with which summed scores find rows that were poisoned (a mark and a wrong label, asked by test rows
with the mark) or mislabeled.  With and without weight decay, which stands beside λ.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.measures.lds import halves
from benchmarks.measures.uses import USES, accuracies, along, at_best
from benchmarks.problems.spoiled import mislabeled, poisoned
from influencekit import InfluenceFunction

HEAD = ["LDS", "accuracy without 30 %", "AUC, poisoned", "AUC, mislabeled"]
#: Choices that look at the answer: the λ of the grid with the best LDS, and with the best use.
ORACLES = {"best LDS": "lds", "best of each": None}


def row(data, decay, seed, sizes, epochs, n_subsets, n_repeats, projection_dim, n_grid, share):
    truth = halves(f"epochs/{data}", seed, n_subsets, n_repeats, None, *sizes,
                   max_epochs=epochs, optimizer__weight_decay=decay)  # fmt: skip
    spoiled = {"poisoned": poisoned(truth.problem, 0.05, seed),
               "mislabeled": mislabeled(truth.problem, 0.1, seed)}  # fmt: skip
    rows = [{"curvature": "–", "choice": "random"}]
    totals = [np.random.RandomState(seed).rand(len(truth.problem.X))]
    for curvature in ("fisher", "ggn"):
        made = InfluenceFunction(curvature, projection_dim=projection_dim, random_state=seed)
        found, more = along(truth, spoiled, made, np.geomspace(1e-8, 1, n_grid))
        rows += [{"curvature": curvature, **one} for one in found]
        totals += more
    found = accuracies(truth, totals, share, n_repeats, seed)
    return [{**one, "accuracy": value} for one, value in zip(rows, found, strict=True)]


def tables(rows):
    lines = []
    for decay, curvature in dict.fromkeys((r["decay"], r["curvature"]) for r in rows):
        own = [r for r in rows if (r["decay"], r["curvature"]) == (decay, curvature)]
        for choice in dict.fromkeys(r["choice"] for r in own if r["choice"] != "grid"):
            chosen = [r for r in own if r["choice"] == choice]
            cells = [mean_error([r.get(key) for r in chosen], 3) for key in USES]
            lines.append([f"{decay:g}", curvature, choice, *cells])
        for choice, by in ORACLES.items() if curvature != "–" else ():
            cells = [mean_error(at_best(own, key, by or key), 3) for key in USES]
            lines.append([f"{decay:g}", curvature, choice, *cells])
    return {"uses": Table(["decay", "curvature", "λ", *HEAD], lines, 3)}


STUDY = Study(
    __doc__, row, {"data": ["digits"], "decay": [5e-3, 0.0], "seed": [0, 1, 2]},
    {"sizes": [600, 300], "epochs": 30, "n_subsets": 60, "n_repeats": 2, "projection_dim": 1024,
     "n_grid": 17, "share": 0.3},
    quick=Size({"data": ["digits"], "decay": [0.0], "seed": [0]},
               {"sizes": [80, 40], "epochs": 2, "n_subsets": 6, "n_repeats": 1,
                "projection_dim": 16, "n_grid": 3}),
    tables=tables,
)  # fmt: skip
