"""Should held-out rows with wrong labels be explained by their loss or by their margin?

Some labels are flipped.  Values of the rows in cross-validation, by InfluenceFunction("ekfac") or
TreeInfluence: AUC and precision for the flipped rows, and the accuracy on clean test rows after
the quarter with the lowest values is left out.
"""

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.problems.labels import flip_labels
from influencekit import InfluenceFunction, TreeInfluence
from influencekit.applications import DatasetPruner, NoisyLabelDetector

DATA = ["digits", "cancer", "acs-linear", "acs", "acs, boosting"]
OUTPUTS = {"loss": "neg_loss", "margin": "margin"}


def accuracy(model, X, y, test):
    """Share of right predictions after training on these rows."""
    return float(np.mean(clone(model).fit(X, y).predict(test[0]) == test[1]))


def row(data, noise, seed, n_train, rate):
    problem = problems.load(f"labels/{data.split(', ')[0]}", seed, n_train)
    boosts, model = data.endswith("boosting"), problem.model
    if boosts:
        model = HistGradientBoostingClassifier(max_iter=50, random_state=seed)
    y, rows = flip_labels(problem.X, problem.y, rate, noise, seed), []
    flipped = y != problem.y
    nothing = accuracy(model, problem.X, y, problem.test)
    for name, output in OUTPUTS.items():
        made = TreeInfluence(output=output) if boosts else InfluenceFunction("ekfac", output=output)
        detector = NoisyLabelDetector(model, made, method="validation_influence", refit=False,
                                      contamination=rate, random_state=seed)  # fmt: skip
        scores = detector.fit(problem.X, y).label_scores_
        first = np.argsort(-scores, kind="stable")[: flipped.sum()]
        pruner = DatasetPruner(model, made, fraction=0.25, random_state=seed)
        left = accuracy(model, *pruner.fit_resample(problem.X, y), problem.test)
        rows.append({"output": name, "auc": float(roc_auc_score(flipped, scores)),
                     "precision": float(flipped[first].mean()), "nothing": nothing,
                     "pruned": left})  # fmt: skip
    return rows


def tables(rows):
    lines = []
    for data, noise in dict.fromkeys((r["data"], r["noise"]) for r in rows):
        own = [r for r in rows if (r["data"], r["noise"]) == (data, noise)]
        line = [data, noise]
        for key in ("auc", "precision", "pruned"):
            line += [short(np.mean([r[key] for r in own if r["output"] == o]), 3) for o in OUTPUTS]
        lines.append([*line, short(np.mean([r["nothing"] for r in own]), 3)])
    pairs = [f"{what}, {o}" for what in ("AUC", "precision", "accuracy") for o in OUTPUTS]
    return {"loss or margin": Table(["data", "noise", *pairs, "nothing left out"], lines, 2)}


STUDY = Study(
    __doc__, row, {"data": DATA, "noise": ["uniform", "feature"], "seed": [0]},
    {"n_train": 1000, "rate": 0.2},
    quick=Size({"data": ["cancer"], "noise": ["uniform"], "seed": [0]}, {"n_train": 100}),
    tables=tables, needs=("acs_income_2018",),
)  # fmt: skip
