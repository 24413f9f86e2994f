"""Which method predicts a rerun of a training run without an example?

The truth is trajectory-specific leave-one-out in float64: the same run again (start, batches,
rates) without one example.  Spearman's correlation over the left-out examples, mean over the test
examples; standard errors are over seeds.  "plain" runs have a constant rate and no weight decay,
"scheduled" ones a rate that falls along a cosine and weight decay 1.  The threshold of the error
proxy is fixed on the first seed of each rate: the largest ratio up to which the scores reach .95.
"""

import numpy as np
from scipy.stats import spearmanr

from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.harness.tables import number
from benchmarks.measures import along_runs, trust
from benchmarks.problems import runs

SIZES = {"mnist": (None, 100, 200), "digits": (None, 100, 200), "cifar2": (512, 30, 60),
         "llama": (None, 16, 30)}  # fmt: skip


def row(data, activation, kind, lr, seed, n_train, n_test, n_left_out, epochs, wanted, proxy):
    own = SIZES[data]
    n_train, n_test, n_left_out = n_train or own[0], n_test or own[1], n_left_out or own[2]
    scheduled = kind == "scheduled"
    run = runs.make_run(data, lr, seed, n_test=n_test, n_left_out=n_left_out, n_train=n_train,
                        epochs=epochs, activation=activation, scheduled=scheduled)  # fmt: skip
    truth = along_runs.reruns(run)
    tables = along_runs.scores(run, scheduled, wanted)
    rows = [{"method": name, "spearman": truth.spearman(table).mean,
             "error": along_runs.error(table, truth.scores), "unresolved": truth.unresolved}
            for name, table in tables.items()]  # fmt: skip
    if proxy and kind == "plain" and activation == "relu" and data != "llama":
        ratio, best = along_runs.kinks(run).of_examples, tables["AdamW, hessian"]
        wrong = np.linalg.norm(best - truth.scores, axis=0) / np.linalg.norm(truth.scores, axis=0)
        rows.append({"ratio": ratio, "rank_of_error": float(spearmanr(ratio, wrong).statistic),
                     "by_example": trust.by_count(ratio, best, truth.scores)})  # fmt: skip
    return rows


def tables(rows):
    found = {}
    for data, kind in dict.fromkeys((r["data"], r["kind"]) for r in rows):
        own = [r for r in rows if (r["data"], r["kind"]) == (data, kind) and "method" in r]
        columns = list(dict.fromkeys((r["activation"], r["lr"]) for r in own))
        lines = []
        for name in dict.fromkeys(r["method"] for r in own):
            cells = [[r["spearman"] for r in own if r["method"] == name
                      and (r["activation"], r["lr"]) == c] for c in columns]  # fmt: skip
            lines.append([name, *(mean_error(cell, 3) for cell in cells)])
        first = [[r["error"] for r in own if r["method"] == "AdamW, hessian"
                  and (r["activation"], r["lr"]) == c] for c in columns]  # fmt: skip
        lines.append(["relative error of the first line", *(mean_error(c) for c in first)])
        heads = [f"{activation}, {lr:g}" for activation, lr in columns]
        found[f"{data}, {kind}"] = Table(["method", *heads], lines)
    checked = trust.table([r for r in rows if "by_example" in r and r["data"] != "cifar2"])
    lines = [[number(r["lr"]), str(r["seed"]), *map(number, r["numbers"])] for r in checked]
    head = ["rate", "seed", "median ratio", "threshold", "share trusted", "Spearman, trusted",
            "Spearman, others", "rank correlation of ratio and error"]  # fmt: skip
    return {**found, "trusted": Table(head, lines, 2)}


RATES = {"lr": [1e-3, 1e-4, 1e-5], "seed": [0, 1, 2]}
ONE = {"activation": ["relu"], "kind": ["plain"], "lr": [1e-3], "seed": [0]}
STUDY = Study(
    __doc__, row,
    [{"data": ["mnist"], "activation": ["relu"], "kind": ["plain", "scheduled"], **RATES},
     {"data": ["mnist"], "activation": ["gelu"], "kind": ["plain"], **RATES},
     {"data": ["cifar2", "llama"], **ONE}],
    {"n_train": None, "n_test": None, "n_left_out": None, "epochs": None, "wanted": None,
     "proxy": True},
    quick=Size({"data": ["digits"], **ONE},
               {"n_train": 64, "n_test": 3, "n_left_out": 4, "epochs": 1,
                "wanted": ["AdamW, hessian", "LESS-type"]}),
    tables=tables, needs=("mnist", "cifar2", "lm_stories260k", "tiny_shakespeare"),
)  # fmt: skip
