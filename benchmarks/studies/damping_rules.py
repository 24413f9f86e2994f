"""Which of some fifty rules finds the best damping without retraining?

A row holds, on a grid of dampings, the LDS of 100 test rows against models retrained on halves, and
every quantity that a rule could read.  A rule's constant is the best on the half "fit" of the
settings; the half "test" judges.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import damping_rules as rules
from benchmarks.measures import rule_rows
from benchmarks.problems.registry import spec_of

SMALLER = {"digits-sgd-decay": 800, "digits-adamw": 800, "digits-sgd": 800}
SETTINGS = [
    "digits-sgd-decay", "digits-adamw", "digits-softmax", "mnist-sgd", "acs-20k", "diabetes-adam",
    "digits-sgd", "mnist-adamw", "acs-logistic", "acs-2k-sgd", "concrete-sgd", "cifar2-cnn",
]  # fmt: skip


def row(problem, seed, n_rows, n_subsets, n_grid, curvatures):
    more = spec_of(problem).more
    if seed >= more.get("n_seeds", 2):
        return []
    n_subsets, n_repeats = n_subsets or more.get("n_subsets", 80), more.get("n_repeats", 2)
    n_rows = n_rows or SMALLER.get(problem)
    return rule_rows.rows(problem, seed, n_rows, n_subsets, n_repeats, n_grid, curvatures)


def line(rows, rule):
    own = [r for r in rows if not np.isnan(rule.pick(r, rule.constants[0]))]
    constants = rules.calibrated(own, rule)
    texts, test = [], -1.0
    for half in ("fit", "test"):
        members = [r for r in own if r["half"] == half]
        values = np.array([
            rules.ratios([r], rule, constants[r["curvature"] if rule.own else "all"])[0]
            for r in members
        ])  # fmt: skip
        cells = rules.by_setting(members, values)
        if not len(cells):
            texts += ["–"] * (2 if half == "fit" else 3)
            continue
        mean, worst = short(cells.mean(), 3), short(cells.min(), 3)
        error = f"{mean} ({short(rules.settings_error(members, values), 3)})"
        texts += [mean, worst] if half == "fit" else [error, short(np.median(cells), 3), worst]
        test = cells.mean()
    constant = constants.get("all")
    return test, [rule.name, "–" if constant is None else f"{constant:.2g}", *texts]


def tables(rows):
    rows = rule_rows.with_traces([r for r in rows if max(r["lds"]) > 0.1])
    lines = sorted((line(rows, rule) for rule in rules.rules()), key=lambda pair: -pair[0])
    head = ["rule", "constant", "fitted on: mean", "worst", "test: mean (s.e.)", "median", "worst"]
    by_setting = [rules.settings_line(name, [r for r in rows if r["problem"] == name])
                  for name in dict.fromkeys(r["problem"] for r in rows)]  # fmt: skip
    heads = ["setting", "half", "best LDS", "ξ = 0.37", "ξ = 0.5", "cosine",
             "cosine at the best λ"]  # fmt: skip
    return {"rules": Table(head, [text for _, text in lines], 7),
            "settings": Table(heads, by_setting, 7)}  # fmt: skip


STUDY = Study(
    __doc__, row, {"problem": SETTINGS, "seed": [0, 1]},
    {"n_rows": None, "n_subsets": None, "n_grid": 91,
     "curvatures": ["fisher", "ggn", "ekfac", "trak"]},
    quick=Size({"problem": ["diabetes-adam"], "seed": [0]},
               {"n_rows": 60, "n_subsets": 20, "n_grid": 7, "curvatures": ["fisher"]}),
    tables=tables, needs=("mnist", "cifar2", "acs_income_2018", "uci_concrete"),
)  # fmt: skip
