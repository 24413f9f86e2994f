"""What do scores along a run of AdamW miss: the optimizer's answer, or the kinks of ReLU?

For nets that differ in their activation alone: Spearman over the left-out examples and relative
error of the derivative, of the finite removal and of ``curvature="smoothed_hessian"`` against
reruns in float64, and the error proxies.  "Two starts": correlation of what reruns of two runs find
whose parameters start with noise of 0.001 between them; about its root is the most there is.
"""

from itertools import combinations

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import of, short
from benchmarks.measures import along_runs
from benchmarks.problems import runs
from influencekit import AdamWInfluence

STARTS = {"mnist": 2, "digits": 3}


def row(data, activation, lr, seed, n_train, n_test, n_left_out, epochs, n_starts):
    size = {"n_train": n_train, "n_test": n_test, "n_left_out": n_left_out, "epochs": epochs}
    n_starts = (n_starts or STARTS[data]) if activation == "relu" else 1
    made = [runs.make_run(data, lr, seed, activation=activation, shift=shift, **size)
            for shift in range(n_starts)]  # fmt: skip
    truths = [along_runs.reruns(run).scores for run in made]
    run, truth = made[0], truths[0]
    finite, proxy = along_runs.finite(run)
    found = {"finite ratio": float(np.median(proxy.of_examples))}
    scores = {"derivative": proxy.scores, "finite": finite}
    if activation == "relu":
        smoothed = AdamWInfluence(run.trajectory, "smoothed_hessian").fit(run.task, run.X, run.y)
        scores["smoothed"] = smoothed.score(run.X_test, run.y_test)[:, run.left_out]
    for name, table in scores.items():
        found[f"{name} spearman"] = along_runs.correlation(table, truth)
        found[f"{name} error"] = along_runs.error(table, truth)
    ratio = along_runs.kinks(run).of_examples
    found["kinks ratio"] = float(np.median(ratio))
    found |= along_runs.by_kinks(ratio, finite, truth)
    pairs = [along_runs.correlation(a, b) for a, b in combinations(truths, 2)]
    if pairs:
        found["two starts"] = float(np.mean(pairs))
        found["root"] = float(np.sqrt(max(np.mean(pairs), 0.0)))
    return found


def tables(rows):
    keys = {
        "derivative and finite": ("derivative spearman", "finite spearman", "derivative error",
                                  "finite error", "kinks ratio", "kinks rank",
                                  "lower half spearman"),
        "smoothed": ("derivative spearman", "smoothed spearman", "derivative error",
                     "smoothed error", "two starts", "root"),
    }  # fmt: skip
    found = {}
    for name, columns in keys.items():
        lines = []
        for cell in dict.fromkeys((r["data"], r["activation"], r["lr"]) for r in rows):
            own = [r for r in rows if (r["data"], r["activation"], r["lr"]) == cell]
            if columns[-1] in own[0] or name != "smoothed":
                means = [short(np.mean(v), 3) if (v := of(own, key)) else "–" for key in columns]
                lines.append([*cell[:2], f"{cell[2]:g}", *means])
        found[name] = Table(["data", "activation", "rate", *columns], lines, 3)
    return found


RATES = [1e-3, 1e-4, 1e-5]
STUDY = Study(
    __doc__, row,
    [{"data": ["mnist", "digits"], "activation": ["relu", "gelu"], "lr": RATES, "seed": [0, 1]},
     {"data": ["mnist"], "activation": ["softplus100"], "lr": [1e-4], "seed": [0]}],
    {"n_train": None, "n_test": 20, "n_left_out": 60, "epochs": None, "n_starts": None},
    quick=Size({"data": ["digits"], "activation": ["relu"], "lr": [1e-3], "seed": [0]},
               {"n_train": 64, "n_test": 3, "n_left_out": 4, "epochs": 1, "n_starts": 1}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
