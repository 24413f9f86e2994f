"""What scores along a trajectory cost, in units of the training run itself.

    python benchmarks/bench_trajectory_cost.py [--json FILE]

A ReLU net 784-W-W-10 with AdamW on random images, trained once with a plain torch loop, then
recorded, and swept back for one query and for 100 at once.  All ratios are of one run:

- "sweep / training": one query, with a snapshot at every step, and with the default distance
  between snapshots, which adds a recomputation;
- "100 queries": 100 single sweeps over one sweep of 100.

The number of training examples grows while the number of steps stays, so that a cost that
depended on n for each example would show.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from influencekit import AdamWInfluence, as_task
from influencekit.training import record_trajectory

N_STEPS, N_QUERIES = 100, 100


def make_net(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def train(module, X, y, batches, record=None):
    """The run; seconds of its steps alone."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    start = perf_counter()
    if record is None:
        _loop(module, optimizer, X, y, batches, lambda rows: None)
        return perf_counter() - start, None
    with record_trajectory(module, optimizer, len(X), every=record) as recorder:
        _loop(module, optimizer, X, y, batches, recorder.rows)
    return perf_counter() - start, recorder.trajectory_


def _loop(module, optimizer, X, y, batches, tell):
    for rows in batches:
        tell(rows)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(X[rows]), y[rows]).backward()
        optimizer.step()


def best(function, repeats: int = 3) -> float:
    """Least seconds of a few calls."""
    found = []
    for _ in range(repeats):
        start = perf_counter()
        function()
        found.append(perf_counter() - start)
    return min(found)


def measure(width: int, batch_size: int) -> dict:
    n = N_STEPS * batch_size
    X, y = torch.randn(n, 784), torch.randint(10, (n,))
    queries, targets = torch.randn(N_QUERIES, 784), torch.randint(10, (N_QUERIES,))
    batches = list(torch.randperm(n).split(batch_size))
    train(make_net(width), X, y, batches)  # warm up
    plain = min(train(make_net(width), X, y, batches)[0] for _ in range(3))
    row = {"width": width, "n_train": n, "batch_size": batch_size, "training": plain}
    for name, every in (("every_step", 1), ("recomputed", 10)):
        module = make_net(width)
        seconds, trajectory = train(module, X, y, batches, every)
        task = as_task(module, loss=nn.CrossEntropyLoss())
        influence = AdamWInfluence(trajectory).fit(task, X, y)
        row[f"recording_{name}"] = seconds
        row[f"sweep_{name}"] = best(lambda i=influence: i.score(queries[:1], targets[:1]))
    together = best(lambda: influence.score(queries, targets), repeats=1)
    alone = best(lambda: [influence.score(queries[[i]], targets[[i]]) for i in range(5)], 1) / 5
    row["queries_together"], row["query_alone"] = together, alone
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print("| net | n | training s | recording | sweep, all snapshots | sweep, recomputed |"
          " 100 queries at once |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|")
    for width, batch_size in ((16, 16), (16, 64), (16, 256), (128, 64), (128, 256)):
        row = measure(width, batch_size)
        rows.append(row)
        print(
            f"| 784-{width}-{width}-10 | {row['n_train']:,} | {row['training']:.3f} "
            f"| {row['recording_recomputed'] / row['training']:.2f} "
            f"| {row['sweep_every_step'] / row['training']:.2f} "
            f"| {row['sweep_recomputed'] / row['training']:.2f} "
            f"| {N_QUERIES * row['query_alone'] / row['queries_together']:.1f} |",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
