"""How well does the derivative of one recorded run answer what that run does without some rows?

Truth: reruns without random sets of 10% and of 1% of the rows.  LDS (Spearman) of each form of the
curvature and of the one that ``curvature="auto"`` takes, beside ``expected_lds_``.  Runs and bars
were written down before the first run: chosen on seed 9, reported on seeds 0 and 1.  A rate counts
as moderate where the adjoint grows at most tenfold from the end of the run to its start.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import single_runs
from benchmarks.problems import runs

#: Data, optimizer (SGD has momentum 0.9), rate, activation.
SETTINGS = {
    "digits, SGD": ("digits", "sgd", 0.02, "relu"),
    "digits, SGD, 5 times the rate": ("digits", "sgd", 0.1, "relu"),
    "digits, AdamW": ("digits", "adamw", 0.001, "relu"),
    "digits, AdamW, 3 times the rate": ("digits", "adamw", 0.003, "relu"),
    "ACSIncome, SGD": ("census", "sgd", 0.01, "relu"),
    "ACSIncome, SGD, 3 times the rate": ("census", "sgd", 0.03, "relu"),
    "ACSIncome, SGD, 10 times the rate": ("census", "sgd", 0.1, "relu"),
    "ACSIncome, AdamW": ("census", "adamw", 0.003, "relu"),
    "wine, SGD": ("wine", "sgd", 0.03, "relu"),
    "wine, AdamW": ("wine", "adamw", 0.01, "relu"),
    "digits, SGD, GELU": ("digits", "sgd", 0.1, "gelu"),
    "ACSIncome, AdamW, GELU": ("census", "adamw", 0.003, "gelu"),
    "wine, AdamW, tanh": ("wine", "adamw", 0.01, "tanh"),
}
COLUMNS = (*single_runs.FORMS, "auto", "expected", "final model")


def row(setting, seed, n_test, n_masks, n_train):
    name, optimizer, lr, activation = SETTINGS[setting]
    run = runs.make_run(name, lr, seed, n_test=n_test, n_left_out=1, optimizer=optimizer,
                        activation=activation, n_train=n_train)  # fmt: skip
    found = single_runs.lds_by_form(run, optimizer, seed, n_masks)
    return {"accuracy": single_runs.accuracy(run), **found}


def tables(rows):
    found = {}
    for share in single_runs.SHARES:
        lines = []
        for r in rows:
            taken = r["taken"] + ("" if r["width"] is None else f", {r['width']:g}")
            growth = f"{r['growth']:.2g}" if np.isfinite(r["growth"]) else "–"
            lds = [short(r[f"{name} {share:g}"], 3) for name in COLUMNS]
            lines.append([r["setting"], str(r["seed"]), growth, *lds, taken])
        head = ["run", "seed", "growth", *COLUMNS, "taken"]
        found[f"{share:.0%}"] = Table(head, lines)
    return {**found, "bars": _bars(rows)}


def _bars(rows):
    """The least that "auto" gains on the best form by name, and errors of its estimate."""
    lines = []
    for share in single_runs.SHARES:
        of = {name: np.array([r[f"{name} {share:g}"] for r in rows], float) for name in COLUMNS}
        kinked = np.array(["GELU" not in r["setting"] and "tanh" not in r["setting"] for r in rows])
        behind = (of["auto"] - np.max([of[f] for f in single_runs.FORMS], axis=0))[kinked]
        wrong = np.abs(of["expected"] - of["auto"])
        near = f"{(behind >= -0.01).sum()} of {kinked.sum()}"
        right = f"{(wrong <= 0.1).sum()} of {len(rows)}"
        lines.append([f"{share:.0%}", short(behind.min(initial=0), 3), short(behind.mean(), 3),
                      near, short(wrong.max(), 3), short(wrong.mean(), 3), right])  # fmt: skip
    head = ["left out", "auto minus best, least", "mean", "within 0.01",
            "error of expected, largest", "mean", "within 0.1"]  # fmt: skip
    return Table(head, lines)


STUDY = Study(
    __doc__, row, {"setting": list(SETTINGS), "seed": [0, 1]},
    {"n_test": 24, "n_masks": 60, "n_train": None},
    quick=Size({"setting": ["wine, SGD"], "seed": [9]},
               {"n_test": 4, "n_masks": 6, "n_train": 40}),
    tables=tables, needs=("acs_income_2018",),
)  # fmt: skip
