"""How near does the error proxy come to the true error of scores along a run?

Truth: reruns in float64 without single rows.  Error: norm over test rows of score minus truth over
that of the truth, median over rows; the proxy's median is its own.  "Second order" was the default
once (ReLU nets of digits alone).  The factor on kinks and the limit of what is reliable were set on
other runs of seed 0.  "axes": falling rate, weight decay 1, scored right and as another run.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table, number
from benchmarks.measures import along_runs
from benchmarks.problems import runs
from influencekit import AdamWInfluence, SGDInfluence

WRONG = {"taken for SGD": "SGD-influence", "constant rate": "AdamW, constant rate assumed",
         "no decay": "AdamW, no decay assumed"}  # fmt: skip


def row(part, data, activation, optimizer, lr, epochs, seed, n_train, n_test, n_left_out):
    axes = part == "axes"
    run = runs.make_run(data, lr, seed, activation=activation, optimizer=optimizer, epochs=epochs,
                        n_train=n_train if data == "digits" else None, n_test=n_test,
                        n_left_out=n_left_out, scheduled=axes)  # fmt: skip
    truth = along_runs.reruns(run).scores
    made = AdamWInfluence if optimizer == "adamw" else SGDInfluence
    influence = made(run.trajectory, "hessian").fit(run.task, run.X, run.y)
    asked = run.X_test, run.y_test, run.left_out
    proxy = influence.taylor_error_proxy(*asked)
    found = {"true": along_runs.median_error(proxy.scores, truth), "proxy": proxy.median,
             "estimate": proxy.estimate, "reliable": proxy.reliable}  # fmt: skip
    if axes:
        wrong = along_runs.scores(run, True, list(WRONG.values()))
        for name, method in WRONG.items():
            found[name] = along_runs.median_error(wrong[method], truth)
    elif (data, activation) == ("digits", "relu"):
        found["before"] = influence.taylor_error_proxy(*asked, estimate="second_order").median
    return found


def tables(rows):
    own, lines = [r for r in rows if r["part"] == "trust"], []
    for cell in dict.fromkeys((r["data"], r["activation"], r["optimizer"], r["lr"]) for r in own):
        some = [r for r in own
                if (r["data"], r["activation"], r["optimizer"], r["lr"]) == cell]  # fmt: skip
        spans = [[r[key] for r in some if key in r] for key in ("true", "before", "proxy")]
        told = [f"{number(min(s))} to {number(max(s))}" if s else "–" for s in spans]
        near = sum(0.5 <= r["proxy"] / r["true"] <= 2 for r in some)
        flags = sum(not r["reliable"] for r in some)
        amiss = sum(r["true"] < 0.15 if not r["reliable"]
                    else not 0.5 <= r["proxy"] / r["true"] <= 2 for r in some)  # fmt: skip
        counts = [f"{n} of {len(some)}" for n in (near, flags, amiss)]
        lines.append([*cell[:3], f"{cell[3]:g}", *told, *counts])
    head = ["data", "activation", "optimizer", "rate", "true median error", "second order",
            "proxy", "within a factor 2", "not to be trusted", "wrong"]  # fmt: skip
    wrong = [[r["activation"], f"{r['lr']:g}", str(r["epochs"]),
              *(number(np.round(r[key], 3)) for key in ("true", "proxy", *WRONG))]
             for r in rows if r["part"] == "axes"]  # fmt: skip
    axes = Table(["activation", "rate", "epochs", "true", "proxy", *WRONG], wrong, 3)
    return {"trust": Table(head, lines, 4), "axes": axes}


TRUST = {"part": ["trust"], "data": ["digits"], "activation": ["relu", "gelu"],
         "epochs": [2], "seed": [0, 1, 2, 3, 4]}  # fmt: skip
WINE = {**TRUST, "data": ["wine"], "activation": ["relu", "tanh"], "epochs": [4]}
ADAMW = {"optimizer": ["adamw"], "lr": [1e-4, 1e-3, 1e-2]}
SGD = {"optimizer": ["sgd"], "lr": [5e-3, 3e-2, 0.2]}
AXES = {"part": ["axes"], "data": ["digits"], "activation": ["relu", "gelu"],
        "optimizer": ["adamw"], "seed": [0]}  # fmt: skip
STUDY = Study(
    __doc__, row,
    [{**data, **optimizer} for data in (TRUST, WINE) for optimizer in (ADAMW, SGD)]
    + [{**AXES, "lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], "epochs": [2]},
       {**AXES, "lr": [1e-3], "epochs": [1, 4, 8]}],
    {"n_train": 320, "n_test": 12, "n_left_out": 16},
    quick=Size({**AXES, "lr": [1e-3], "epochs": [1], "activation": ["relu"]},
               {"n_train": 64, "n_test": 3, "n_left_out": 4}),
    tables=tables,
)  # fmt: skip
