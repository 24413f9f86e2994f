"""Should held-out rows with wrong labels be explained by their loss, margin, or its run average?

Some labels are flipped.  Values of the rows in cross-validation, by InfluenceFunction("ekfac") or
TreeInfluence, for nets also averaged along the run: AUC and precision for the flipped rows, and
the accuracy on clean test rows after the quarter with the lowest values is left out.
"""

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from skorch import NeuralNet

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.problems.labels import flip_labels
from influencekit import InfluenceFunction, RunAverage, TreeInfluence
from influencekit.applications import DatasetPruner, NoisyLabelDetector
from influencekit.training import KeepCheckpoints

DATA = ["digits", "cancer", "acs-linear", "acs", "acs, boosting"]
OUTPUTS = {"loss": "neg_loss", "margin": "margin"}
VALUES = [*OUTPUTS, "average"]
KEYS = {"auc": "AUC", "precision": "precision", "pruned": "accuracy", "self": "AUC of itself"}


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
    if isinstance(model, NeuralNet):
        model = clone(model).set_params(callbacks=[("kept", KeepCheckpoints(n=8))])
    for name in VALUES if isinstance(model, NeuralNet) else OUTPUTS:
        output = OUTPUTS.get(name, "margin")
        made = TreeInfluence(output=output) if boosts else InfluenceFunction("ekfac", output=output)
        made = RunAverage(made) if name == "average" else made
        detector = NoisyLabelDetector(model, made, method="validation_influence", refit=False,
                                      contamination=rate, random_state=seed)  # fmt: skip
        scores = detector.fit(problem.X, y).label_scores_
        first = np.argsort(-scores, kind="stable")[: flipped.sum()]
        pruner = DatasetPruner(model, made, fraction=0.25, random_state=seed)
        left = accuracy(model, *pruner.fit_resample(problem.X, y), problem.test)
        own = detector.set_params(method="self_influence").fit(problem.X, y).label_scores_
        rows.append({"output": name, "auc": float(roc_auc_score(flipped, scores)),
                     "precision": float(flipped[first].mean()), "nothing": nothing,
                     "self": float(roc_auc_score(flipped, own)),
                     "pruned": left})  # fmt: skip
    return rows


def tables(rows):
    cells, lines, selves = dict.fromkeys((r["data"], r["noise"]) for r in rows), [], []
    for cell in cells:
        own = {r["output"]: r for r in rows if (r["data"], r["noise"]) == cell}
        texts = [[short(own[o][key], 3) if o in own else "–" for o in VALUES] for key in KEYS]
        nothing = short(own["loss"]["nothing"], 3)
        lines.append([*cell, *texts[0], *texts[1], *texts[2], nothing])
        selves.append([*cell, *texts[3]])
    pairs = [f"{what}, {o}" for what in list(KEYS.values())[:3] for o in VALUES]
    return {"loss or margin": Table(["data", "noise", *pairs, "nothing left out"], lines, 2),
            "self-influence": Table(["data", "noise", *VALUES], selves, 2)}  # fmt: skip


STUDY = Study(
    __doc__, row, {"data": DATA, "noise": ["uniform", "feature"], "seed": [0]},
    {"n_train": 1000, "rate": 0.2},
    quick=Size({"data": ["cancer"], "noise": ["uniform"], "seed": [0]}, {"n_train": 100}),
    tables=tables, needs=("acs_income_2018",),
)  # fmt: skip
