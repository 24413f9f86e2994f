"""What fifty dampings cost against one: the surrogate indicator ξ and the LDS, on digits.

    python benchmarks/bench_damping_path.py [--dampings 50] [--json FILE]

A two-layer net learns 1,000 digits; 100 others are the queries.  Each time is the best of
some repeats in which one damping and all dampings take turns, so that a busy machine slows
both; the ratio says what the further dampings cost.  "after gradients" starts where the
query gradients are in the eigenbasis; "end to end" starts from the fitted net.  The outputs
of retrained models are made up: what ranking them costs does not depend on them.
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
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import InfluenceFunction
from influencekit.metrics import PreparedOutputs

#: Ratios that the library aims at.
AIMS = {"xi_end_to_end": 1.2, "lds_after_gradients": 2.0}


def train_net(hidden: int):
    """Pipeline fitted on 1,000 digits, its training data, and 100 other digits."""
    X, y = load_digits(return_X_y=True)
    X, X_query, y, y_query = train_test_split(
        X.astype(np.float32), y, train_size=1000, test_size=100, stratify=y, random_state=0
    )
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=1e-3,
        lr=0.1,
        batch_size=64,
        max_epochs=30,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return make_pipeline(MinMaxScaler(), net).fit(X, y), (X, y), (X_query, y_query)


def best_times(one, many, repeats: int) -> dict[str, float]:
    """Best seconds of two functions that take turns, and their ratio."""
    best = [float("inf"), float("inf")]
    for _ in range(repeats):
        for i, function in enumerate((one, many)):
            start = perf_counter()
            function()
            best[i] = min(best[i], perf_counter() - start)
    return {"one": best[0], "many": best[1], "ratio": best[1] / best[0]}


def measure(options: argparse.Namespace, curvature: str) -> dict:
    """Measure every pair of jobs for one curvature."""
    model, train, queries = train_net(options.hidden)

    def fit() -> InfluenceFunction:
        return InfluenceFunction(curvature, damping=1e-3).fit(model, *train)

    influence = fit()
    path = influence.damping_path(*queries)
    largest = float(influence.eigenvalues_.max())
    dampings = np.geomspace(1e-6, 10, options.dampings) * largest
    middle = dampings[[len(dampings) // 2]]
    rng = np.random.default_rng(0)
    masks = rng.random((options.subsets, len(train[0]))) < 0.5
    outputs = rng.normal(size=(options.subsets, len(queries[0])))

    def lds(some: np.ndarray, path=path) -> np.ndarray:
        sums = path.subset_sums(masks)
        return PreparedOutputs(outputs).correlations(sums.at(some)).mean(axis=1)

    def xi_end_to_end(some: np.ndarray) -> np.ndarray:
        return fit().damping_path(*queries).xi(some)

    def lds_end_to_end(some: np.ndarray) -> np.ndarray:
        return lds(some, fit().damping_path(*queries))

    def pair(function, repeats: int) -> dict[str, float]:
        return best_times(lambda: function(middle), lambda: function(dampings), repeats)

    loads = [os.getloadavg()[0]]
    jobs = {
        "xi_after_gradients": pair(path.xi, 5 * options.repeats),
        "xi_end_to_end": pair(xi_end_to_end, options.repeats),
        "lds_after_gradients": pair(lds, 5 * options.repeats),
        "lds_end_to_end": pair(lds_end_to_end, options.repeats),
    }
    loads.append(os.getloadavg()[0])
    return {
        "curvature": curvature,
        "n_parameters": influence.task_.n_parameters,
        "rank": len(influence.eigenvalues_),
        "dampings": options.dampings,
        "subsets": options.subsets,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "load": loads,
        "jobs": jobs,
    }


def table(result: dict) -> str:
    """Times and ratios, a line a job."""
    lines = [
        f"{result['curvature']}, {result['n_parameters']:,} parameters, {result['rank']:,} "
        f"eigenvalues, {result['subsets']} subsets; {result['threads']} threads, load "
        f"{result['load'][0]:.1f} to {result['load'][1]:.1f}",
        f"{'job':<24}{'one λ, ms':>12}{str(result['dampings']) + ' λ, ms':>12}"
        f"{'ratio':>8}{'aim':>8}",
    ]
    for name, times in result["jobs"].items():
        aim = f"{AIMS[name]:.1f}" if name in AIMS else ""
        lines.append(
            f"{name.replace('_', ' '):<24}{1e3 * times['one']:>12.2f}"
            f"{1e3 * times['many']:>12.2f}{times['ratio']:>8.2f}{aim:>8}"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dampings", type=int, default=50)
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=32, help="units of the hidden layer")
    parser.add_argument("--curvatures", nargs="+", default=["ggn", "fisher"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="torch threads; default all")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = []
    for curvature in options.curvatures:
        results.append(measure(options, curvature))
        print(table(results[-1]), end="\n\n", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
