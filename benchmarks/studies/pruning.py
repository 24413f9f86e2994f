"""What accuracy is left when a quarter, half and three quarters of the training rows are left out?

Rows are valued by DatasetPruner in cross-validation on the training rows alone, and the model is
trained again on what stays, several times; test rows are asked only then.  Rows, values and
retrainings are drawn anew for each seed.
"""

import numpy as np

from benchmarks import problems
from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.measures.helpful import is_right
from benchmarks.problems.labels import flip_labels
from influencekit import GradDot, LossBaseline, retrain_on_subsets
from influencekit.applications import DatasetPruner, NoisyLabelDetector


def pruners(model, seed, ways):
    """Ways to choose the rows that stay."""
    found = {
        "random": lambda: {"strategy": "random"},
        "influence, lowest": dict,
        "influence, weakest": lambda: {"strategy": "weakest"},
        "GradDot, lowest": lambda: {"attributor": GradDot()},
        "loss, highest": lambda: {"attributor": LossBaseline()},
        "label score, highest": lambda: {
            "attributor": NoisyLabelDetector(model, contamination=0.1, refit=False)
        },
    }
    return {n: DatasetPruner(model, random_state=seed, **found[n]()) for n in ways or found}


def row(data, seed, n_train, n_repeats, noise, rate, shares, ways):
    problem = problems.load(f"labels/{data}", seed, n_train)
    X, y = problem.train
    if rate:
        y = flip_labels(X, y, rate, noise, seed)
    masks = {("nothing left out", 0.0): np.ones(len(y), dtype=bool)}
    for way, pruner in pruners(problem.model, seed, ways).items():
        pruner.fit(X, y)
        for share in shares:
            mask = np.zeros(len(y), dtype=bool)
            mask[pruner.kept_at(share)] = True
            masks[way, share] = mask
    outputs = retrain_on_subsets(
        problem.model, X, y, *problem.test, masks=np.array(list(masks.values())),
        n_repeats=n_repeats, output=is_right, random_state=seed,
    ).outputs  # fmt: skip
    return [
        {"way": way, "share": share, "accuracy": accuracy}
        for (way, share), accuracy in zip(masks, outputs.mean(axis=(1, 2)), strict=True)
    ]


def tables(rows):
    shares, lines = list(dict.fromkeys(r["share"] for r in rows if r["share"])), []
    for data in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == data]
        full = mean_error([r["accuracy"] for r in own if not r["share"]], 2, 100)
        lines.append([f"**{data}**, nothing left out: {full}", *[""] * len(shares)])
        for way in dict.fromkeys(r["way"] for r in own if r["share"]):
            cells = [[r["accuracy"] for r in own if (r["way"], r["share"]) == (way, share)]
                     for share in shares]  # fmt: skip
            lines.append([way, *(mean_error(cell, 2, 100) for cell in cells)])
    return {"accuracy": Table(["left out", *(f"{100 * s:.0f} %" for s in shares)], lines)}


STUDY = Study(
    __doc__, row, {"data": ["digits", "acs-linear", "mnist"], "seed": [0, 1, 2]},
    {"n_train": 3000, "n_repeats": 2, "noise": "uniform", "rate": 0.0,
     "shares": [0.25, 0.5, 0.75], "ways": None},
    quick=Size({"data": ["wine-linear"], "seed": [0]},
               {"n_repeats": 1, "shares": [0.5], "ways": ["random", "GradDot, lowest"]}),
    tables=tables, needs=("mnist", "acs_income_2018"),
)  # fmt: skip
