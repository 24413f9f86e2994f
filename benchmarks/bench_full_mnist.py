"""All of MNIST: seconds and peak memory of fit, of the scores and of the top examples.

    python benchmarks/bench_full_mnist.py --data-home FOLDER --max-memory 3GB

60,000 training and 1,000 test images, an MLP 784-128-10 with 101,770 parameters.  Each method runs
in a process of its own; memory is the peak of the whole process, beside what it held before
fitting.  The scores alone take 480 MB.  Without MNIST the images are Gaussian clusters.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.curvature import EKFAC

METHODS = {
    "GradDot": lambda memory: GradDot(max_memory=memory),
    "EK-FAC": lambda memory: InfluenceFunction(EKFAC("true"), max_memory=memory, random_state=0),
    "EK-FAC, drawn labels": lambda memory: InfluenceFunction(
        EKFAC("sampled"), max_memory=memory, random_state=0
    ),
    "Fisher, 2,048 dimensions": lambda memory: InfluenceFunction(
        "fisher", projection_dim=2048, max_memory=memory, random_state=0
    ),
    "GGN, 2,048 dimensions": lambda memory: InfluenceFunction(
        "ggn", projection_dim=2048, max_memory=memory, random_state=0
    ),
}


def images(options):
    """X, y, X_test, y_test as tensors."""
    path = Path(options.data_home or os.environ.get("INFLUENCEKIT_DATA", "")) / "mnist/mnist.npz"
    n, m = options.n, options.m
    if path.is_file():
        with np.load(path) as data:
            parts = [data[name] for name in ("X_train", "y_train", "X_test", "y_test")]
        X, y, X_test, y_test = parts[0][:n], parts[1][:n], parts[2][:m], parts[3][:m]
        X, X_test = (a.reshape(len(a), -1).astype(np.float32) / 255 for a in (X, X_test))
    else:
        rng = np.random.RandomState(0)
        y = rng.randint(10, size=n + m)
        X = rng.randn(10, 784)[y] + rng.randn(n + m, 784)
        X, X_test, y, y_test = X[:n].astype(np.float32), X[n:].astype(np.float32), y[:n], y[n:]
    return (
        torch.from_numpy(X),
        torch.from_numpy(y.astype(np.int64)),
        torch.from_numpy(X_test),
        torch.from_numpy(y_test.astype(np.int64)),
    )


def trained(X, y, epochs: int = 3):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()


def status(key: str) -> float:
    """GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**20


def one(options) -> dict:
    X, y, X_test, y_test = images(options)
    task = as_task(trained(X, y), loss=nn.CrossEntropyLoss())
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    attributor, times = METHODS[options.child](options.max_memory), {}
    start = perf_counter()
    attributor.fit(task, X, y)
    times["fit"] = perf_counter() - start
    start = perf_counter()
    attributor.top_k(X_test, y_test, k=10)
    times["top_k"] = perf_counter() - start
    peak_top = status("VmHWM")
    start = perf_counter()
    scores = attributor.score(X_test, y_test)
    times["score"] = perf_counter() - start
    return {
        **times,
        "peak without scores": peak_top,
        "peak": status("VmHWM"),
        "before": before,
        "shape": scores.shape,
        "p": sum(q.numel() for q in task.parameters.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home")
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--m", type=int, default=1_000)
    parser.add_argument("--max-memory", default="3GB")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=METHODS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.child:
        print(json.dumps(one(options)))
        return
    print("| method | fit s | top 10 s | all scores s | peak GB, top 10 | peak GB | before GB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    rows = {}
    for name in options.only:
        command = [sys.executable, *sys.argv, "--child", name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows[name] = row = json.loads(output.splitlines()[-1])
        keys = ("fit", "top_k", "score", "peak without scores", "peak", "before")
        print(f"| {name} | " + " | ".join(f"{row[key]:.2f}" for key in keys) + " |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
