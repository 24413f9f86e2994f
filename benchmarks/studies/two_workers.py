"""What do two workers save where retrainings are not stacked, and what does one cost?

Seconds of one thread a worker, in turns: a loop of ``clone(net).fit`` on the same subsets, one
worker, and two; the median of some turns. Random data: only cost counts.
"""

import os
from statistics import median

import numpy as np
import torch
from sklearn.base import clone

from benchmarks.harness import Size, Study, Table, cost_of, number, ready
from benchmarks.problems import nets
from benchmarks.problems.wide_nets import ResNet9
from influencekit import retrain_on_subsets

#: Net, its options, the shape of a row, and rows.
NETS = {
    "MLP": (nets.MLP, {"module__sizes": (784, 800, 256, 10)}, (784,), 2000),
    "CNN": (nets.CNN, {}, (3, 16, 16), 4000),
    "ResNet-9": (ResNet9, {}, (3, 32, 32), 100),
}


def row(net, n_models, n_runs, scale, epochs):
    torch.set_num_threads(1)
    (kind, options, shape, n), rng = NETS[net], np.random.default_rng(0)
    X = rng.normal(size=(int(scale * n), *shape)).astype(np.float32)
    y = rng.integers(2, size=len(X))
    recipe = {"optimizer": torch.optim.SGD, "lr": 0.01, "max_epochs": epochs, "batch_size": 64}
    model = nets.skorch_net(kind, recipe, **options)
    masks = np.stack([rng.permutation(len(X)) < len(X) // 2 for _ in range(n_models)])

    def retrained(n_jobs):
        how = {"masks": masks, "engine": "joblib", "n_jobs": n_jobs, "random_state": 0}
        return retrain_on_subsets(model, X, y, X[:20], y[:20], **how).outputs

    def loop():
        for own in masks:
            clone(model).fit(X[own], y[own])

    jobs = {"loop": loop, "one": lambda: retrained(1), "two": lambda: retrained(2)}
    found = {name: job() for name, job in jobs.items()}  # workers start and import once
    load, seconds = os.getloadavg()[0], {name: [] for name in jobs}
    ready()
    for _ in range(n_runs):
        for name, job in jobs.items():
            seconds[name].append(cost_of(job)[0]["seconds"])
    took = {name: median(each) for name, each in seconds.items()}
    model.initialize()
    return {"p": sum(p.numel() for p in model.module_.parameters()), **took, "load": load,
            "over_loop": took["one"] / took["loop"], "ratio": took["one"] / took["two"],
            "best": max(a / b for a, b in zip(seconds["one"], seconds["two"], strict=True)),
            "equal": bool(np.array_equal(found["one"], found["two"]))}  # fmt: skip


def tables(rows):
    head = ["net", "p", "a loop, s", "one worker", "two workers", "one / a loop", "one / two",
            "best turn", "load before", "equal outputs"]  # fmt: skip
    keys = ("loop", "one", "two", "over_loop", "ratio", "best", "load")
    lines = [[r["net"], f"{r['p']:,}", *(number(r[key]) for key in keys),
              "yes" if r["equal"] else "no"] for r in rows]  # fmt: skip
    return {"two workers": Table(head, lines)}


STUDY = Study(
    __doc__, row, {"net": list(NETS)}, {"n_models": 6, "n_runs": 3, "scale": 1, "epochs": 3},
    quick=Size({"net": ["CNN"]}, {"n_models": 2, "n_runs": 1, "scale": 0.01, "epochs": 1}),
    tables=tables, fresh=True,
)  # fmt: skip
