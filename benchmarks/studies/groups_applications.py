"""What do groups cost and gain where scores are used: wrong labels and pruning?

A fifth of the labels is flipped.  The detector's AUC is that of its scores for the flipped rows;
pruning leaves out a quarter of the rows, and the model is trained again on what stays.  Values are
minus, or plus, the sum of a row's scores for rows of other folds; rows of a group share them.
Seconds (of CPU) are of the whole fit: of folds, models and clustering.
"""

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import problems
from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.harness.measure import cost_of
from benchmarks.harness.tables import short
from benchmarks.measures.helpful import is_right
from benchmarks.problems.labels import flip_labels
from influencekit import InfluenceFunction, retrain_on_subsets
from influencekit.applications import DatasetPruner, NoisyLabelDetector
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper

GROUPERS = {"k-means, gradients": KMeansGrouper, "random": RandomGrouper}


def attributor(way, size, dim, seed):
    fisher = InfluenceFunction("fisher", projection_dim=dim, random_state=seed)
    if way == "points":
        return fisher
    grouper, curvature = way.rsplit(", ", 1)
    grouped = GROUPERS[grouper](group_size=size, random_state=seed)
    return GroupAttributor(fisher, grouped, curvature=curvature)


def row(data, way, size, seed, n_train, dim, rate, noise, share, n_repeats):
    problem = problems.load(f"labels/{data}", seed, n_train)
    X, y = problem.X, flip_labels(problem.X, problem.y, rate, noise, seed)
    made = attributor(way, size, dim, seed)
    detector = NoisyLabelDetector(
        problem.model, made, method="validation_influence", refit=False, random_state=seed
    )
    pruner = DatasetPruner(problem.model, made, fraction=share, random_state=seed)
    detecting, _ = cost_of(lambda: detector.fit(X, y))
    pruning, _ = cost_of(lambda: pruner.fit(X, y))
    masks = np.zeros((1, len(y)), dtype=bool)
    masks[0, pruner.sample_indices_] = True
    right = retrain_on_subsets(
        problem.model, X, y, *problem.test, masks=masks, n_repeats=n_repeats, output=is_right,
        random_state=seed,
    ).outputs  # fmt: skip
    return {"auc": float(roc_auc_score(y != problem.y, detector.label_scores_)),
            "accuracy": float(right.mean()), "detecting": detecting["cpu_seconds"],
            "pruning": pruning["cpu_seconds"]}  # fmt: skip


def tables(rows):
    lines = []
    for data, way, size in dict.fromkeys((r["data"], r["way"], r["size"]) for r in rows):
        own = [r for r in rows if (r["data"], r["way"], r["size"]) == (data, way, size)]
        auc, accuracy = (mean_error([r[k] for r in own], 1, 100) for k in ("auc", "accuracy"))
        seconds = [short(np.mean([r[k] for r in own])) for k in ("detecting", "pruning")]
        lines.append([data, way, str(size), auc, seconds[0], accuracy, seconds[1]])
    head = ["data", "scores", "size", "AUC", "detecting, CPU s", "accuracy", "pruning, CPU s"]
    return {"AUC, accuracy, seconds": Table(head, lines, 2)}


WAYS = ["k-means, gradients, points", "k-means, gradients, groups"]
SIZED = {"data": ["digits"], "way": WAYS, "size": [16, 64], "seed": [0, 1]}
STUDY = Study(
    __doc__, row, [SIZED | {"way": ["points"], "size": [1]}, SIZED],
    {"n_train": 500, "dim": 256, "rate": 0.2, "noise": "uniform", "share": 0.25, "n_repeats": 1},
    quick=Size({"data": ["wine-linear"], "way": WAYS[1:2], "size": [16], "seed": [0]},
               {"n_train": 100}),
    tables=tables,
)  # fmt: skip
