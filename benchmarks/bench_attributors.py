"""Every attributor on one ground truth: LDS as it comes, at the ξ pick, and at its best.

Digits and an MLP 64-32-10, as in bench_digits_lds.py: 1,000 training rows, 100 queries, 100
half-subsets with 3 seeds each.  "default" is the attributor with no parameter set, "xi" the pick
of SurrogateLambdaSearchCV at its default threshold, "best" the best of a grid of dampings, which
looks at the answer.  Attributors marked "x 5" average five models trained with other seeds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from bench_digits_lds import RECIPES, problem
from sklearn.base import clone

from influencekit import (
    TRAK,
    GradCos,
    GradDot,
    InfluenceFunction,
    LossBaseline,
    RandomBaseline,
    SurrogateLambdaSearchCV,
    TracIn,
    lds_scorer,
    retrain_on_subsets,
)
from influencekit.curvature import CURVATURES
from influencekit.models import load_checkpoints
from influencekit.training import train_checkpoints

SPARSE_GRID = np.geomspace(1e-4, 1e1, 11)


def attributors() -> dict:
    """Name to attributor with its defaults; "x 5" and TracIn take several models."""
    found = {
        "Random": RandomBaseline(random_state=0),
        "Loss": LossBaseline(),
        "GradDot": GradDot(),
        "GradCos": GradCos(),
        "TracIn, 5 checkpoints": TracIn(),
        "TRAK": TRAK(random_state=0),
        "TRAK x 5": TRAK(random_state=0),
    }
    for name in CURVATURES:
        found[name] = InfluenceFunction(name, random_state=0)
    found["ggn x 5"] = InfluenceFunction("ggn")
    found["ekfac x 5"] = InfluenceFunction("ekfac")
    return found


def models_of(name: str, net, X, y, epochs: int):
    """The model or models that an attributor is given."""
    if "checkpoints" in name:
        epochs = np.unique(np.linspace(1, epochs, 5).astype(int))
        states = train_checkpoints(net, X, y, list(epochs), random_state=0)
        return load_checkpoints(net, states.values())
    if not name.endswith("x 5"):
        return net
    nets = [net]
    for seed in range(101, 105):
        torch.manual_seed(seed)
        nets.append(clone(net).fit(X, y))
    return nets


def evaluate(name: str, attributor, models, X, y, X_test, y_test, score) -> dict:
    """LDS at the default, at the ξ pick and at the best damping."""
    start = time.perf_counter()
    fitted = attributor.fit(models, X, y)
    row = {"attributor": name, "default": score(fitted, X_test, y_test)}
    row["seconds"] = time.perf_counter() - start
    if not hasattr(fitted, "damping_"):
        return row
    row["default_damping"] = float(np.mean(fitted.damping_))
    grid = SPARSE_GRID
    if hasattr(fitted, "eigenvalues_"):
        largest = float(np.max(fitted.eigenvalues_))
        grid = np.geomspace(1e-6 * largest, 10 * largest, 57)
        search = SurrogateLambdaSearchCV(attributor, random_state=0).fit(models, X, y)
        row["xi"] = score(search, X_test, y_test)
    values = {}
    for damping in grid:
        try:
            values[float(damping)] = score(fitted.set_damping(float(damping)), X_test, y_test)
        except ValueError:  # a diverging series or an indefinite matrix has no scores there
            continue
    row["best"] = max([row["default"], *values.values()])
    row["ratio"] = row["default"] / row["best"]
    return row


def main() -> None:
    """Print a row for each attributor and recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=["sgd", "adamw"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for recipe in arguments.recipes:
        for seed in range(arguments.seeds):
            net, X, y, X_test, y_test = problem(recipe, seed)
            truth = retrain_on_subsets(
                net,
                X,
                y,
                X_test,
                y_test,
                n_subsets=100,
                n_repeats=3,
                random_state=seed,
                cache_dir=arguments.cache_dir,
            )
            score = lds_scorer(truth)
            print(
                f"\n{recipe}, seed {seed}\n{'attributor':<24}{'default':>9}{'xi':>9}{'best':>9}"
                f"{'ratio':>8}{'seconds':>9}"
            )
            for name, attributor in attributors().items():
                if arguments.only and name not in arguments.only:
                    continue
                models = models_of(name, net, X, y, RECIPES[recipe]["max_epochs"])
                row = evaluate(name, attributor, models, X, y, X_test, y_test, score)
                rows.append({"recipe": recipe, "seed": seed, **row})
                cells = [row.get(key) for key in ("default", "xi", "best", "ratio")]
                text = [f"{'-':>9}" if c is None else f"{c:>9.3f}" for c in cells]
                print(f"{name:<24}{''.join(text)}{row['seconds']:>9.1f}", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
