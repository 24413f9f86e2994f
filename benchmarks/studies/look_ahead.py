"""Training on chosen rows: how far to look ahead, online and offline, at what cost?

A share of the training labels is wrong; the validation rows have right labels and are given to the
selection alone.  "Equal cost" is plain training for as many epochs as the dearest online selection
below K = "full" would have paid for, in gradients of single rows; "full" scores 8 steps at a time.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.measures import selection
from benchmarks.measures.private import RandomSelector
from influencekit.applications import LookAheadSelector

N_TRAIN, FULL = {"mnist": 2000, "acs": 4000, "digits": 900}, 10**6


def row(data, rate, keep, epochs, seed, n_train, n_val, lr, horizons):
    job = selection.Job(data, rate, seed, n_train or N_TRAIN[data], n_val, lr, epochs)
    asked, wrong = job.validation, job.wrong
    job.online("all rows")
    job.online("right labels only", rows=~wrong)
    job.online("random rows", RandomSelector(*asked, horizon=0, keep=keep))
    for k in horizons:
        horizon, every = (FULL, 8) if k == "full" else (k, 1)
        selector = LookAheadSelector(*asked, horizon=horizon, keep=keep, every=every)
        job.online(f"online, K = {k}", selector)
    dear = [r["cost"] for r in job.rows if "online" in r["way"] and "full" not in r["way"]]
    job.online("all rows, equal cost", epochs=round(epochs * max(dear, default=1)))
    for k in horizons:
        job.offline(f"offline, K = {k}", horizon=None if k == "full" else k, keep=keep)
    return job.rows


def tables(rows):
    columns = list(dict.fromkeys((r["data"], r["rate"], r["keep"]) for r in rows))
    lines, head = [], ["way"]
    for data, rate, keep in columns:
        head += [f"{data}, {100 * rate:.0f} % wrong, keep {keep}: accuracy, %", "cost",
                 "wrong used, %"]  # fmt: skip
    for way in dict.fromkeys(r["way"] for r in rows):
        line = [way]
        for column in columns:
            own = [r for r in rows if (r["data"], r["rate"], r["keep"]) == column
                   and r["way"] == way]  # fmt: skip
            wrong = [100 * r["wrong"] for r in own if r.get("wrong") is not None]
            line += [mean_error([r["accuracy"] for r in own], 1, 100) if own else "–",
                     f"{np.mean([r['cost'] for r in own]):.1f}" if own else "–",
                     f"{np.mean(wrong):.0f}" if wrong else "–"]  # fmt: skip
        lines.append(line)
    return {"accuracy": Table(head, lines)}


AXES = {"rate": [0.3], "keep": [0.7], "epochs": [10], "seed": [0, 1, 2]}
SHORT = {"data": ["digits"], "rate": [0.2], "keep": [0.5], "epochs": [5], "seed": [0, 1]}
STUDY = Study(
    __doc__, row, [{"data": ["mnist", "acs"], **AXES}, SHORT],
    {"n_train": None, "n_val": 200, "lr": 1e-3, "horizons": [0, 1, 2, 4, 8, 16, "full"]},
    quick=Size({**SHORT, "epochs": [1], "seed": [0]},
               {"n_train": 128, "n_val": 20, "horizons": [0]}),
    tables=tables, needs=("mnist", "acs_income_2018"),
)  # fmt: skip
