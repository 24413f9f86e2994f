"""Time of retraining many small nets at once against one skorch fit after the other.

    python benchmarks/bench_stacked_training.py [--models 100] [--json]

Prints the ratio and the largest difference between the outputs of the two.  Both run in this
process; a first small round takes the one-time imports out of both.  In float32 an activation
that rounds to the other side of a kink can move one model by 1e-3; ``--dtype float64`` shows
that nothing else differs.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.training import retrain_on_subsets

N_FEATURES, N_CLASSES, N_QUERY = 64, 10, 100


class MLP(nn.Module):
    """Features, one hidden layer, logits."""

    def __init__(self, width=32, dropout=0.0, dtype=torch.float32):
        super().__init__()
        self.hidden = nn.Linear(N_FEATURES, width, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, N_CLASSES, dtype=dtype)

    def forward(self, X):
        return self.out(self.dropout(torch.relu(self.hidden(X))))


def make_net(options: argparse.Namespace) -> NeuralNetClassifier:
    """Net with shuffled batches."""
    return NeuralNetClassifier(
        MLP,
        module__width=options.width,
        module__dropout=options.dropout,
        module__dtype=getattr(torch, options.dtype),
        criterion=nn.CrossEntropyLoss,
        optimizer=getattr(torch.optim, options.optimizer),
        lr=options.lr,
        max_epochs=options.epochs,
        batch_size=options.batch_size,
        iterator_train__shuffle=True,
        verbose=0,
    )


def measure(options: argparse.Namespace) -> dict:
    """Run both engines on the same subsets and seeds."""
    rng = np.random.default_rng(0)
    n = 2 * options.rows
    X = rng.normal(size=(n, N_FEATURES)).astype(options.dtype)
    y = (X @ rng.normal(size=(N_FEATURES, N_CLASSES))).argmax(axis=1)
    queries = X[:N_QUERY], y[:N_QUERY]
    masks = rng.random((options.models, n)) < 0.5 if options.unequal else None
    net = make_net(options)
    result: dict = vars(options) | {"threads": torch.get_num_threads()}
    outputs = {}
    for engine in ("stacked", "joblib"):
        retrain_on_subsets(net, X, y, *queries, n_subsets=2, engine=engine, random_state=1)
        start = time.perf_counter()
        outputs[engine] = retrain_on_subsets(
            net,
            X,
            y,
            *queries,
            n_subsets=options.models,
            masks=masks,
            engine=engine,
            n_jobs=1,
            random_state=0,
        ).outputs
        result[f"seconds_{engine}"] = time.perf_counter() - start
    result["ratio"] = result["seconds_joblib"] / result["seconds_stacked"]
    result["max_difference"] = float(np.abs(outputs["stacked"] - outputs["joblib"]).max())
    return result


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--rows", type=int, default=500, help="rows of each subset")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--optimizer", default="SGD")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--unequal", action="store_true", help="subsets of unequal sizes")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    as_json = options.json
    del options.json
    result = measure(options)
    if as_json:
        print(json.dumps(result))
        return
    print(
        f"{options.models} nets, {options.rows} rows, {options.epochs} epochs: "
        f"one by one {result['seconds_joblib']:.1f} s, stacked {result['seconds_stacked']:.1f} s, "
        f"ratio {result['ratio']:.1f}, largest difference {result['max_difference']:.1e}"
    )


if __name__ == "__main__":
    main()
