"""DataInf and LoGra: how fast they are, and how well they rank.

``--time`` fits and scores an MLP on random images of MNIST's size: 5,000 training and 500 test
examples with about 50,000 and 470,000 parameters, and with ``--large`` 60,000 and 1,000
examples; it prints seconds and the peak memory of the process.

``--digits`` retrains an MLP on digits (see bench_digits_lds.py) and prints the linear datamodeling
score of DataInf over dampings and of LoGra over ranks, beside GradDot, the exact curvatures
and the baselines.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings

import numpy as np
import torch
from bench_digits_lds import RECIPES, problem
from torch import nn

from influencekit import (
    GradDot,
    InfluenceFunction,
    LossBaseline,
    RandomBaseline,
    as_task,
    retrain_on_subsets,
)
from influencekit.curvature import DataInf, LoGra
from influencekit.exceptions import InfluenceKitWarning
from influencekit.metrics._lds import PreparedOutputs

SIZES = {50_000: (784, 64, 10), 470_000: (784, 512, 128, 10)}


def network(widths) -> nn.Sequential:
    """MLP with ReLU."""
    layers: list[nn.Module] = []
    for d_in, d_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def time_one(curvature, p: int, n: int, m: int) -> None:
    """Print seconds of fit, of score and of scoring again at another damping."""
    torch.manual_seed(0)
    task = as_task(network(SIZES[p]), loss=nn.CrossEntropyLoss())
    X, y = torch.randn(n + m, 784), torch.randint(10, (n + m,))
    influence = InfluenceFunction(curvature)
    start = time.perf_counter()
    influence.fit(task, X[:n], y[:n])
    fitted = time.perf_counter()
    influence.score(X[n:], y[n:])
    scored = time.perf_counter()
    influence.set_damping(2 * influence.damping_)
    influence.score(X[n:], y[n:])
    again = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{curvature!s:<24} n={n:<7,} m={m:<6,} p={task.n_parameters:<8,} fit {fitted - start:6.2f}"
        f"  score {scored - fitted:6.2f}  next damping {again - scored:6.2f} s  peak {peak:.2f} GB",
        flush=True,
    )


def digits(recipe: str, seed: int, cache_dir) -> None:
    """Print scores of one retrained problem."""
    data = problem(recipe, seed)
    outputs = retrain_on_subsets(
        *data, n_subsets=100, n_repeats=3, random_state=seed, cache_dir=cache_dir
    )
    prepared = PreparedOutputs(outputs.outputs)
    masks = np.asarray(outputs.masks, dtype=float)

    def lds(attributor) -> float:
        scores = attributor.fit(*data[:3]).score(*data[3:])
        return prepared.score(scores @ masks.T).mean

    print(f"\n{recipe}, seed {seed}: noise ceiling {prepared.noise_ceiling:.3f}")
    rows: dict = {
        "Random": RandomBaseline(random_state=0),
        "Loss": LossBaseline(),
        "GradDot": GradDot(),
        "fisher": InfluenceFunction("fisher"),
        "ggn": InfluenceFunction("ggn"),
    }
    for scaled in (False, True):
        for damping in ("auto", 1e-6, 1e-3, 1.0, 1e3):
            rows[f"DataInf(scaled={scaled}), {damping}"] = InfluenceFunction(
                DataInf(scaled=scaled), damping
            )
    for init in ("pca", "random"):
        for kind in ("ggn", "fisher"):
            for rank in (4, 8, 16, 32, 64):
                curvature = LoGra(rank, init=init, rows=kind, random_state=0)
                rows[f"LoGra({rank}, {kind}, {init})"] = InfluenceFunction(curvature)
    for name, attributor in rows.items():
        print(f"{name:<34}{lds(attributor):7.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--large", action="store_true", help="also 60,000 training examples")
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache-dir", default=None)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InfluenceKitWarning)
    if arguments.time:
        for p in SIZES:
            for tried in (DataInf(), LoGra(), LoGra(rows="fisher"), LoGra(init="random")):
                time_one(tried, p, 5_000, 500)
        if arguments.large:
            for tried in (LoGra(rows="fisher"), DataInf()):
                time_one(tried, 470_000, 60_000, 1_000)
    if arguments.digits:
        for recipe in RECIPES:
            for seed in range(arguments.seeds):
                digits(recipe, seed, arguments.cache_dir)
