"""Time of further training with and without each of 100 rows: together against one by one.

    python benchmarks/bench_further_training.py [--left-out 100] [--json]

The loop is what one writes in plain torch: for each left-out row a DataLoader over the other
rows' order, forward, backward and step for each batch, and the test losses at every epoch.  Both
run in this process on the same seed; a short round takes the one-time imports out of both.
Prints the ratio of wall times and the largest difference between the outputs of the two.  The
net is the paper's: two hidden layers of 128, batches of 128, 927 rows of 8 features.
"""

from __future__ import annotations

import argparse
import copy
import json
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from influencekit import FurtherTraining, as_task


class OrderWithout(Sampler):
    """The order of a shuffling DataLoader, epoch by epoch, with one row deleted."""

    def __init__(self, n: int, seed: int, row: int | None):
        self.n, self.row = n, row
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n - (self.row is not None)

    def __iter__(self):
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        order = torch.randperm(self.n, generator=self.generator).tolist()
        torch.randperm(self.n, generator=self.generator)
        return (i for i in order if i != self.row)


def make_module(options: argparse.Namespace, n_features: int) -> nn.Module:
    """Net of two hidden layers."""
    torch.manual_seed(0)
    width = options.width
    return nn.Sequential(
        nn.Linear(n_features, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
    )


def loop(options, module, data, queries, seed, rows) -> np.ndarray:
    """Minus the test losses (n_runs, n_epochs, n_test) of one run after the other."""
    X_test, y_test = queries
    outputs = []
    for row in rows:
        model = copy.deepcopy(module).train()
        optimizer = getattr(torch.optim, options.optimizer)(model.parameters(), lr=options.lr)
        order = OrderWithout(len(data), seed, row)
        loader = DataLoader(data, batch_size=options.batch_size, sampler=order)
        losses = []
        for _ in range(options.epochs):
            for X, y in loader:
                optimizer.zero_grad()
                nn.functional.mse_loss(model(X), y).backward()
                optimizer.step()
            with torch.no_grad():
                losses.append((model(X_test) - y_test).square()[:, 0].double().numpy())
        outputs.append(losses)
    return -np.array(outputs)


def together(options, module, data, queries, left_out) -> tuple[int, np.ndarray]:
    """Seed and differences (n_epochs, n_test, n_left_out) of all runs at once."""
    further = FurtherTraining(
        options.optimizer.lower(),
        options.lr,
        horizons=range(1, options.epochs + 1),
        batch_size=options.batch_size,
        left_out=left_out,
        n_repeats=1,
        removal="drop",
        engine="stacked",
        random_state=0,
    )
    further.fit(as_task(module, loss=nn.MSELoss()), *data.tensors)
    return int(further.seeds_[0]), further.measure(*queries).scores


def measure(options: argparse.Namespace) -> dict:
    """Run both on the same rows and seed."""
    rng = torch.Generator().manual_seed(0)
    X = torch.randn(options.rows, options.features, generator=rng)
    y = torch.sin(X.sum(1, keepdim=True)) + 0.1 * torch.randn(options.rows, 1, generator=rng)
    data = TensorDataset(X, y)
    queries = X[: options.queries] + 0.01, y[: options.queries]
    module = make_module(options, options.features)
    result: dict = vars(options) | {"threads": torch.get_num_threads()}
    together(options, module, data, queries, [0])
    loop(options, module, data, queries, 0, [None])
    start = time.perf_counter()
    left_out = np.arange(options.left_out) * options.rows // options.left_out
    seed, scores = together(options, module, data, queries, left_out)
    result["seconds_together"] = time.perf_counter() - start
    start = time.perf_counter()
    outputs = loop(options, module, data, queries, seed, [None, *left_out.tolist()])
    result["seconds_loop"] = time.perf_counter() - start
    expected = np.moveaxis(outputs[:1] - outputs[1:], 0, -1)
    result["ratio"] = result["seconds_loop"] / result["seconds_together"]
    result["max_difference"] = float(np.abs(scores - expected).max())
    result["largest_score"] = float(np.abs(expected).max())
    return result


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--left-out", type=int, default=100)
    parser.add_argument("--rows", type=int, default=927)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--queries", type=int, default=103)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--optimizer", choices=["SGD", "Adam", "AdamW"], default="SGD")
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    as_json = options.json
    del options.json
    result = measure(options)
    if as_json:
        print(json.dumps(result))
        return
    print(
        f"1 + {options.left_out} runs of {options.epochs} epochs over {options.rows} rows: "
        f"one by one {result['seconds_loop']:.1f} s, together {result['seconds_together']:.1f} s, "
        f"ratio {result['ratio']:.1f}, largest difference {result['max_difference']:.1e} of "
        f"{result['largest_score']:.1e}"
    )


if __name__ == "__main__":
    main()
