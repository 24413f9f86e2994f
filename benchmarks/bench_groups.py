"""What grouping training examples buys, in time and in fidelity, clustering counted.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_groups.py [--n-train N] [--json FILE]

An MLP 784-120-40-10 with 99,450 parameters on MNIST, enlarged digits without the data.  For each
group size, grouper and method:

- seconds from the fitted model to the scores of all groups, clustering included;
- the same for exact sums of point scores (``GroupAttributor(curvature="points")``) and for point
  scores of this package without groups;
- per-example attribution by ``vmap(grad)`` of ``torch.func``, the usual baseline, which forms
  every gradient (estimated from a part of the rows, and said so);
- correlation, over groups and averaged over queries, with exact sums of point scores.

TracIn is one checkpoint here, GradDot.  "Fisher" is InfluenceFunction("fisher"), "TRAK" TRAK with
the margin; both with curvature="groups" are the k x k forms, and with "points" projected to 1,024
dimensions.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from influencekit import TRAK, GradDot, InfluenceFunction, as_task
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper

SIZES = (1, 4, 16, 64, 256, 1024)
#: Above so many groups the k x k form asks for too much memory here.
MOST_GROUPS = 700
DIM, DAMPING = 1024, 1e-2


def data(home: Path | None, n: int, m: int):
    """Training and test images as 784 numbers."""
    if home is not None and (home / "mnist" / "mnist.npz").exists():
        with np.load(home / "mnist" / "mnist.npz") as file:
            X, y = file["X_train"], file["y_train"]
        X = X.reshape(len(X), -1).astype(np.float32) / 255
    else:
        X, y = load_digits(return_X_y=True)
        X = np.kron(X.reshape(-1, 8, 8) / 16, np.ones((1, 4, 4)))[:, 2:30, 2:30]
        X = X.reshape(len(X), -1).astype(np.float32)
    rows = np.random.RandomState(0).permutation(len(X))
    train, test = rows[:n], rows[n : n + m]
    return X[train], y[train].astype(np.int64), X[test], y[test].astype(np.int64)


def fitted(X, y):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(784, 120), nn.ReLU(), nn.Linear(120, 40), nn.ReLU(), nn.Linear(40, 10)
    )
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    inputs, targets = torch.as_tensor(X), torch.as_tensor(y)
    for _ in range(5):
        for rows in torch.randperm(len(X)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return as_task(module, loss=nn.CrossEntropyLoss())


def vmap_seconds(task, X, y, n_queries: int, part: int = 1000, chunk: int = 250) -> dict:
    """Seconds of per-example gradients by vmap, dotted or projected, extrapolated to all rows."""
    theta = {k: p.detach() for k, p in task.parameters.items()}

    def loss(theta, x, t):
        outputs = torch.func.functional_call(task.module, theta, (x[None],))
        return nn.functional.cross_entropy(outputs, t[None])

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    inputs, targets = torch.as_tensor(X[:part]), torch.as_tensor(y[:part])
    queries = torch.randn(n_queries, task.n_parameters)
    projection = torch.randn(task.n_parameters, DIM) / DIM**0.5
    found = {}
    for name, other in (("GradDot", queries.T), ("Fisher", projection), ("TRAK", projection)):
        start = perf_counter()
        for rows in torch.arange(part).split(chunk):
            grads = each(theta, inputs[rows], targets[rows])
            flat = torch.cat([g.flatten(1) for g in grads.values()], dim=1)
            flat @ other
        found[name] = (perf_counter() - start) * len(X) / part
    return found


def methods(curvature: str):
    """Attributor of single examples by name."""
    options = {"projection_dim": DIM, "random_state": 0} if curvature == "points" else {}
    return {
        "GradDot": GradDot(),
        "Fisher": InfluenceFunction("fisher", DAMPING, **options),
        "TRAK": TRAK(DAMPING, **({"projection_dim": None} | options)),
    }


def groupers(size: int):
    return {
        "random": RandomGrouper(group_size=size, random_state=0),
        "k-means, inputs": KMeansGrouper(group_size=size, features="inputs", random_state=0),
        "k-means, gradients": KMeansGrouper(group_size=size, random_state=0),
    }


def timed(function):
    start = perf_counter()
    return function(), perf_counter() - start


def correlation(a, b) -> float:
    """Mean over queries of the correlation over groups."""
    if a.shape[1] < 3:
        return float("nan")
    return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--n-train", type=int, default=10_000)
    parser.add_argument("--n-test", type=int, default=100)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    X, y, X_test, y_test = data(arguments.data_home, arguments.n_train, arguments.n_test)
    task = fitted(X, y)
    print(f"n = {len(X):,}, m = {len(X_test)}, p = {task.n_parameters:,}")
    by_vmap = vmap_seconds(task, X, y, len(X_test))
    points, rows = {}, []
    for name, attributor in methods("points").items():
        points[name], seconds = timed(lambda a=attributor: a.fit(task, X, y).score(X_test, y_test))
        rows.append({"method": name, "points": seconds, "vmap": by_vmap[name]})
        print(f"{name}: point scores {seconds:.2f} s, vmap {by_vmap[name]:.1f} s (extrapolated)")
    print("\n| size | grouper | clustering s | method | groups s | over vmap | over own points |"
          " correlation |")  # fmt: skip
    print("|---:|---|---:|---|---:|---:|---:|---:|", flush=True)
    for size in arguments.sizes:
        for grouper_name, grouper in groupers(size).items():
            if size == 1 and grouper_name != "random":
                continue
            labels, clustering = timed(lambda g=grouper: g.fit_predict(task, X, y))
            k = int(labels.max()) + 1
            sums = np.zeros((k, len(X)))
            sums[labels, np.arange(len(X))] = 1
            for name, attributor in methods("groups").items():
                exact = points[name] @ sums.T
                kind = "points" if name == "GradDot" else "groups"
                if kind == "groups" and k > MOST_GROUPS:
                    continue
                form = "sum" if grouper_name == "random" else "mean"
                grouped = GroupAttributor(attributor, curvature=kind, fisher_form=form)
                found, seconds = timed(
                    lambda g=grouped, own=labels: g.fit(task, X, y, groups=own).score(
                        X_test, y_test
                    )
                )
                row = {
                    "size": size,
                    "grouper": grouper_name,
                    "n_groups": k,
                    "clustering": clustering,
                    "method": name,
                    "seconds": seconds,
                    "over_vmap": by_vmap[name] / (clustering + seconds),
                    "over_points": next(r["points"] for r in rows if r["method"] == name)
                    / (clustering + seconds),
                    "correlation": correlation(found, exact),
                }
                rows.append(row)
                print(
                    f"| {size} | {grouper_name} | {clustering:.2f} | {name} | {seconds:.2f} "
                    f"| {row['over_vmap']:.1f} | {row['over_points']:.2f} "
                    f"| {row['correlation']:.3f} |",
                    flush=True,
                )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
