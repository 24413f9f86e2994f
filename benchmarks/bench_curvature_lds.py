"""Linear datamodeling score of curvatures: negative eigenvalues, low rank, solvers.

The set-up is that of ``bench_digits_lds.py``.  For each curvature the table shows the score at
its automatic damping and, where a damping path makes that cheap, the best of a fine grid, which
looks at the answer.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from bench_digits_lds import RECIPES, problem

from influencekit import InfluenceFunction, retrain_on_subsets
from influencekit.curvature import (
    Arnoldi,
    ConjugateGradient,
    GaussNewton,
    Hessian,
    LiSSA,
    Nystroem,
)
from influencekit.exceptions import InfluenceKitWarning
from influencekit.metrics._lds import PreparedOutputs

CURVATURES = [
    GaussNewton(),
    Hessian("drop"),
    Hessian("absolute"),
    Hessian("keep"),
    Arnoldi(100),
    Arnoldi(30),
    Arnoldi(100, complement="drop"),
    Arnoldi(100, "hessian"),
    Nystroem(300),
    Nystroem(100),
    Nystroem(30),
    Nystroem(100, "hessian"),
    ConjugateGradient(),
    ConjugateGradient(preconditioner=None),
    ConjugateGradient("hessian"),
    LiSSA(),
]


def evaluate(curvature, data, masks, prepared) -> dict:
    """Score at the automatic damping and at the best of a grid."""
    net, X, y, X_test, y_test = data
    fitted = InfluenceFunction(curvature, random_state=0).fit(net, X, y)
    row = {"damping": fitted.damping_}
    if hasattr(fitted, "solution"):
        solution = fitted.solution(X_test, y_test)
        scores = -solution.products / len(X)
        row["iterations"] = float(solution.iterations.mean())
    else:
        scores = fitted.score(X_test, y_test)
    row["default"] = prepared.score(scores @ masks.T.astype(float)).mean
    if hasattr(fitted, "eigenvalues_"):
        path = fitted.damping_path(X_test, y_test).subset_sums(masks)
        largest = float(fitted.eigenvalues_.max())
        lowest = 1e-8 * largest
        if getattr(curvature, "negative", "") == "keep":  # where it is positive definite
            lowest = 1.05 * max(lowest / 1.05, -float(fitted.eigenvalues_.min()))
        grid = np.geomspace(lowest, 10 * largest, 91)
        values = [prepared.score(path.at(damping)).mean for damping in grid]
        row.update(best=max(values), best_damping=float(grid[int(np.argmax(values))]))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-lissa", action="store_true")
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None, help="write all rows here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InfluenceKitWarning)
    rows = []
    for seed in range(arguments.seeds):
        for recipe in RECIPES:
            data = problem(recipe, seed)
            truth = retrain_on_subsets(
                *data,
                n_subsets=arguments.subsets,
                n_repeats=arguments.repeats,
                random_state=seed,
                cache_dir=arguments.cache_dir,
            )
            prepared = PreparedOutputs(truth.outputs)
            for curvature in CURVATURES:
                if isinstance(curvature, LiSSA) and arguments.skip_lissa:
                    continue
                row = {"recipe": recipe, "seed": seed, "curvature": str(curvature)}
                row.update(evaluate(curvature, data, truth.masks, prepared))
                rows.append(row)
                print(*(f"{k}={v:.4g}" if isinstance(v, float) else v for k, v in row.items()))
    for name in dict.fromkeys(row["curvature"] for row in rows):
        own = [row for row in rows if row["curvature"] == name]
        line = f"{name}: default {np.mean([row['default'] for row in own]):.3f}"
        if "best" in own[0]:
            ratio = [row["default"] / row["best"] for row in own]
            line += f", of its best {min(ratio):.3f} to {max(ratio):.3f}"
        print(line)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
