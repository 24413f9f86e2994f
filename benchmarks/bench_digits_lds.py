"""How close each way to a damping comes to the best: digits, an MLP, SGD and AdamW.

For each optimizer and seed (split, model and subsets all drawn anew) an MLP 64-32-10 is trained
on 1,000 digits and retrained on 100 halves with 3 seeds each.  For the empirical Fisher and the
Gauss-Newton matrix, exact and projected, the table shows the linear datamodeling score on 100
test digits at the library's default damping, at the surrogate indicator's picks (queries from
the training data), and at the best of a fine grid, which looks at the answer.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import InfluenceFunction, SurrogateLambdaSearchCV, retrain_on_subsets
from influencekit.exceptions import LambdaPathWarning
from influencekit.metrics._lds import PreparedOutputs

RECIPES = {
    "sgd": {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 5e-3,
        "lr": 0.05,
        "max_epochs": 60,
    },
    "sgd, no decay": {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "lr": 0.05,
        "max_epochs": 15,
    },
    "adamw": {"optimizer": torch.optim.AdamW, "lr": 3e-3, "max_epochs": 15},
}
THRESHOLDS = (0.5, 0.37)


class Net(nn.Module):
    """64-32-10 with ReLU."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, X):
        return self.layers(X)


def problem(recipe: str, seed: int):
    """Fitted net, training data and queries."""
    X, y = load_digits(return_X_y=True)
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[:1000], order[1000:1100]
    X = (X / 16).astype(np.float32)
    torch.manual_seed(seed)
    net = NeuralNetClassifier(
        Net,
        criterion=nn.CrossEntropyLoss,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **RECIPES[recipe],
    )
    return net.fit(X[train], y[train]), X[train], y[train], X[test], y[test]


def evaluate(recipe: str, seed: int, curvature: str, dim: int | None, data, truth) -> dict:
    """LDS of one attributor at every choice of damping."""
    net, X, y, X_test, y_test = data
    influence = InfluenceFunction(curvature, projection_dim=dim, random_state=seed)
    fitted = influence.fit(net, X, y)
    path = fitted.damping_path(X_test, y_test)
    sums = path.subset_sums(truth["masks"])

    def lds(damping):
        return truth["prepared"].score(sums.at(damping)).mean

    row = {"recipe": recipe, "seed": seed, "curvature": curvature, "projection_dim": dim}
    row["default"] = lds(fitted.damping_)
    for threshold in THRESHOLDS:
        search = SurrogateLambdaSearchCV(influence, threshold=threshold, random_state=seed)
        search.fit(net, X, y)
        row[f"xi={threshold}"] = lds(search.best_params_["damping"])
    largest = float(fitted.eigenvalues_.max())
    grid = np.geomspace(1e-8 * largest, 10 * largest, 91)
    values = [lds(damping) for damping in grid]
    best = int(np.argmax(values))
    row.update(best=values[best], best_damping=grid[best], default_damping=fitted.damping_)
    row["xi_at_best"] = float(np.nanmean(path.xi([grid[best]])))
    row["noise_ceiling"] = truth["prepared"].noise_ceiling
    return row


def run(seeds: int, n_subsets: int, n_repeats: int, cache_dir) -> list[dict]:
    """All rows, printed as they come."""
    rows = []
    ways = ["default", *(f"xi={t}" for t in THRESHOLDS), "best"]
    print(f"{'recipe':<15}{'seed':>5}{'curvature':>11}{'dim':>6}", *(f"{w:>9}" for w in ways))
    for recipe in RECIPES:
        for seed in range(seeds):
            data = problem(recipe, seed)
            outputs = retrain_on_subsets(
                *data,
                n_subsets=n_subsets,
                n_repeats=n_repeats,
                random_state=seed,
                cache_dir=cache_dir,
            )
            truth = {"masks": outputs.masks, "prepared": PreparedOutputs(outputs.outputs)}
            for curvature in ("fisher", "ggn"):
                for dim in (None, 512):
                    row = evaluate(recipe, seed, curvature, dim, data, truth)
                    rows.append(row)
                    print(
                        f"{recipe:<15}{seed:>5}{curvature:>11}{dim or '-':>6}",
                        *(f"{row[w]:>9.3f}" for w in ways),
                        flush=True,
                    )
    return rows


def summarize(rows: list[dict]) -> None:
    """Ratios to the best of the grid."""
    print("\nratio to the best of the grid: median and worst over seeds")
    for curvature in ("fisher", "ggn"):
        chosen = [row for row in rows if row["curvature"] == curvature]
        for way in ("default", *(f"xi={t}" for t in THRESHOLDS)):
            ratio = np.array([row[way] / row["best"] for row in chosen])
            print(f"{curvature:<8}{way:<10} median {np.median(ratio):.3f}  worst {ratio.min():.3f}")
    at_best = [row["xi_at_best"] for row in rows]
    print(f"mean ξ at the best damping: median {np.median(at_best):.2f}, ", end="")
    print(f"from {min(at_best):.2f} to {max(at_best):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None, help="write all rows here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", LambdaPathWarning)
    found = run(arguments.seeds, arguments.subsets, arguments.repeats, arguments.cache_dir)
    summarize(found)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))
