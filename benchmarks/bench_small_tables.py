"""Dampings chosen without retraining, on tables of a few hundred rows.

    python benchmarks/bench_small_tables.py [--seeds 0 1 2] [--json FILE]

Data that come with scikit-learn, a skorch net on standardized columns, 60 % of the rows to train.
Half of the other rows are for tuning, half are reported.  For each net the linear datamodeling
score (100 random halves, 2 trainings each) at the default damping, at the default without the
least damping of stopped classifiers, where the cosine is 0.57, where ξ is 0.5, at the choice of
LDSSearch (32 retrainings, the tuning rows), at infinite damping (GradDot), and the best of a grid.
"Cosine there" is the cosine with GradDot at the best.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from selector_settings import SGD, mlp
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from influencekit import (
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SurrogateLambdaSearchCV,
    retrain_on_subsets,
)
from influencekit.damping import auto_damping
from influencekit.damping._indicators import grad_dot_cosine
from influencekit.metrics._lds import PreparedOutputs

GRID = np.geomspace(1e-6, 1e2, 49)
#: Data, hidden units (0: none), epochs.
SETTINGS = {
    "breast cancer, MLP": (load_breast_cancer, 16, 20),
    "breast cancer, MLP, 5 epochs": (load_breast_cancer, 16, 5),
    "breast cancer, linear": (load_breast_cancer, 0, 20),
    "wine, MLP": (load_wine, 16, 20),
    "wine, linear": (load_wine, 0, 20),
    "iris, MLP": (load_iris, 16, 40),
    "diabetes, MLP": (load_diabetes, 16, 40),
}
COLUMNS = ("default", "spectrum alone", "cosine = 0.57", "ξ = 0.5", "LDSSearch", "GradDot", "best")


def problem(name: str, seed: int):
    """Fitted net, training rows, tuning rows, reported rows."""
    load, n_hidden, epochs = SETTINGS[name]
    X, y = load(return_X_y=True)
    classifies = load is not load_diabetes
    if not classifies:
        y = (y - y.mean()) / y.std()
    y = y.astype(np.int64) if classifies else y.astype(np.float32)[:, None]
    labels = y if classifies else None
    X, X_rest, y, y_rest = train_test_split(
        X, y, train_size=0.6, stratify=labels, random_state=seed
    )
    scaler = StandardScaler().fit(X)
    X, X_rest = (scaler.transform(part).astype(np.float32) for part in (X, X_rest))
    torch.manual_seed(seed)
    n_out = int(y.max()) + 1 if classifies else 1
    recipe = SGD | {"lr": 0.1 if classifies else 0.02, "batch_size": 32, "max_epochs": epochs}
    hidden = (n_hidden,) if n_hidden else ()
    net = mlp(hidden, n_out, classifies, recipe, X.shape[1]).fit(X, y)
    half = len(X_rest) // 2
    output = "margin" if classifies else "prediction"
    return net, (X, y), (X_rest[:half], y_rest[:half]), (X_rest[half:], y_rest[half:]), output


def measure(name: str, seed: int) -> dict:
    """LDS of every choice on the reported rows."""
    net, train, tuning, reported, output = problem(name, seed)
    truth = retrain_on_subsets(
        net, *train, *reported, n_subsets=100, n_repeats=2, output=output, random_state=seed
    )
    prepared = PreparedOutputs(truth.outputs)

    def lds(scores) -> float:
        return prepared.score(scores @ truth.masks.T.astype(float)).mean

    influence = InfluenceFunction(output=output).fit(net, *train)
    path = influence.damping_path(*reported)
    searches = {
        "cosine = 0.57": {"criterion": "cosine"},
        "ξ = 0.5": {"criterion": "xi"},
    }
    alone = auto_damping(influence.curvature_)
    dampings = {"default": float(influence.damping_), "spectrum alone": alone}
    for column, options in searches.items():
        search = SurrogateLambdaSearchCV(
            InfluenceFunction(output=output), random_state=seed, refine=True, **options
        ).fit(net, *train)
        dampings[column] = search.best_params_["damping"]
    search = LDSSearch(InfluenceFunction(output=output), n_subsets=32, random_state=1000 + seed)
    search.fit(net, *train, X_query=tuning[0], y_query=tuning[1])
    dampings["LDSSearch"] = search.best_params_["damping"]
    found = {column: lds(path.scores(damping)) for column, damping in dampings.items()}
    found["GradDot"] = lds(GradDot(output=output).fit(net, *train).score(*reported))
    grid = [lds(path.scores(float(damping))) for damping in GRID]
    best = float(GRID[int(np.argmax(grid))])
    found["best"] = max(max(grid), *found.values())
    cosine = float(np.nanmean(grad_dot_cosine(path, [best])))
    X, y = train
    wrong = float((net.predict(X) != y).mean()) if output == "margin" else float("nan")
    return {
        "setting": name, "seed": seed, "n": len(X), "dampings": {**dampings, "best": best},
        "lds": found, "cosine": cosine, "train_error": wrong, "ceiling": prepared.noise_ceiling,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    head = ["setting", "n", *COLUMNS, "cosine there", "attainable"]
    print("| " + " | ".join(head) + " |\n| --- |" + " ---: |" * (len(head) - 1))
    for name in SETTINGS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = [measure(name, seed) for seed in arguments.seeds]
        rows += own
        cells = [f"{np.mean([row['lds'][column] for row in own]):.2f}" for column in COLUMNS]
        extra = [f"{np.mean([row[key] for row in own]):.2f}" for key in ("cosine", "ceiling")]
        print("| " + " | ".join([name, str(own[0]["n"]), *cells, *extra]) + " |", flush=True)
    ratios = {
        column: [row["lds"][column] / row["lds"]["best"] for row in rows] for column in COLUMNS[:-1]
    }
    for column, values in ratios.items():
        print(
            f"{column}: {np.mean(values):.2f} of the best in the mean, {min(values):.2f} at worst"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
