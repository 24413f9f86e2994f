"""How well are flipped labels found, by detector, kind of noise and share of wrong labels?

Every detector sees the rows, the noisy labels and the model, and nothing else.  AUC is that of its
scores for the flipped rows; precision is the share of flipped rows among the first k of its
ranking, with k the number of flipped rows.  cleanlab's rankings get the same out-of-fold
probabilities as the out-of-fold loss; they are there in the environment "tools".
"""

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.measures import detectors
from benchmarks.problems.labels import flip_labels

SMALLER = {"acs": 5000}


def row(data, noise, rate, seed, n_train, wanted):
    problem = problems.load(f"labels/{data}", seed, min(n_train, SMALLER.get(data, n_train)))
    y = flip_labels(problem.X, problem.y, rate, noise, seed)
    flipped, rows = y != problem.y, []
    for detector, scores in detectors.scores(problem, y, seed, wanted).items():
        if isinstance(scores, str):
            rows.append({"detector": detector, "error": scores})
            continue
        first = np.argsort(-scores, kind="stable")[: flipped.sum()]
        auc, precision = roc_auc_score(flipped, scores), flipped[first].mean()
        rows.append({"detector": detector, "auc": float(auc), "precision": float(precision)})
    return rows


def tables(rows):
    columns = list(dict.fromkeys((r["noise"], r["rate"]) for r in rows))
    lines = []
    for data in dict.fromkeys(r["data"] for r in rows):
        lines.append([f"**{data}**", *[""] * len(columns)])
        own = [r for r in rows if r["data"] == data]
        for detector in dict.fromkeys(r["detector"] for r in own):
            cells = []
            for column in columns:
                cell = [r for r in own if (r["noise"], r["rate"]) == column
                        and r["detector"] == detector and "auc" in r]  # fmt: skip
                means = [100 * np.mean([r[key] for r in cell]) if cell else np.nan
                         for key in ("auc", "precision")]  # fmt: skip
                cells.append(f"{means[0]:.1f}, {means[1]:.0f}" if cell else "–")
            lines.append([detector, *cells])
    head = ["", *(f"{noise} {100 * rate:.0f} %" for noise, rate in columns)]
    return {"AUC, precision": Table(head, lines)}


def quick(name):
    return {"data": [name], "noise": ["feature"], "rate": [0.2], "seed": [0]}


AXES = {"noise": ["uniform", "feature"], "rate": [0.1, 0.2, 0.4], "seed": [0, 1, 2]}
STUDY = Study(
    __doc__, row, {"data": ["digits", "mnist", "acs", "acs-linear"], **AXES},
    {"n_train": 10_000, "wanted": None},
    quick=Size(quick("wine-linear"), {"wanted": ["loss", "rounds (default)", "self_influence"]}),
    tables=tables, needs=("mnist", "acs_income_2018"), environment="tools",
)  # fmt: skip
