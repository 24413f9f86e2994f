"""Training on chosen rows: how far to look ahead, online and offline, at what cost?

A share of the training labels is uniformly wrong; the validation rows have right labels and are
given to the selection alone.  "none, equal cost" is plain training for as many epochs as the
gradients of the dearest online selection below K = "full" would have paid for.  Costs are counted
in gradients of single rows, in trainings on everything; "full" looks to the end of training and
scores 8 steps at a time, the others score one.
"""

import numpy as np
import torch

from benchmarks import problems
from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.measures.private import RandomSelector
from benchmarks.problems import nets
from benchmarks.problems.labels import flip_labels
from influencekit.applications import LookAheadSelector, score_then_retrain

N_TRAIN, FULL = {"mnist": 2000, "acs": 4000, "digits": 900}, 10**6


def row(data, rate, keep, epochs, seed, n_train, n_val, lr, horizons):
    n_train = n_train or N_TRAIN[data]
    problem = problems.load(f"labels/{data}", seed, n_train + n_val)
    X, truth = problem.X[n_val:], problem.y[n_val:]
    validation = problem.X[:n_val], problem.y[:n_val]
    y, rows, plain = flip_labels(X, truth, rate, "uniform", seed), [], len(X) * epochs

    def net(callbacks=(), epochs=epochs):
        recipe = {"optimizer": torch.optim.AdamW, "lr": lr, "max_epochs": epochs}
        classes = list(range(int(problem.y.max()) + 1))
        return nets.mlp_of((64,), len(classes), recipe, classes=classes,
                           callbacks=list(callbacks))(X, y)  # fmt: skip

    def add(way, fitted, cost, wrong):
        accuracy = float(fitted.score(*problem.test))
        rows.append({"way": way, "accuracy": accuracy, "cost": cost / plain, "wrong": wrong})

    def fit(way, selector=None, epochs=epochs, chosen=slice(None)):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        made = net([("look_ahead", selector)] if selector else (), epochs)
        made.fit(X[chosen], y[chosen])
        found = dict(made.callbacks_).get("look_ahead")
        cost = len(y[chosen]) * epochs if found is None else found.n_gradients_
        kept = None if found is None else found.n_kept_
        wrong = None if kept is None else float(kept[y != truth].sum()) / float(kept.sum())
        add(way, made, cost, wrong)

    fit("all rows")
    fit("right labels only", chosen=y == truth)
    fit("random rows", RandomSelector(*validation, 0, keep))
    for k in horizons:
        horizon, every = (FULL, 8) if k == "full" else (k, 1)
        fit(f"online, K = {k}", LookAheadSelector(*validation, horizon=horizon, keep=keep,
                                                  every=every))  # fmt: skip
    online = [r["cost"] for r in rows if r["way"].startswith("online") and "full" not in r["way"]]
    fit("all rows, equal cost", epochs=round(epochs * max(online, default=1)))
    for k in horizons:
        found = score_then_retrain(net(), X, y, *validation, keep=keep, random_state=seed,
                                   horizon=None if k == "full" else k)  # fmt: skip
        wrong = float((y != truth)[found.rows].mean())
        add(f"offline, K = {k}", found.estimator, 4 * plain + len(found.rows) * epochs, wrong)
    return rows


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
