"""What scores are used for, along λ: the LDS, rows to remove, rows that are bad."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.measures.helpful import TINY, is_right
from benchmarks.measures.lds import Halves, picked
from benchmarks.problems.spoiled import Spoiled
from influencekit import InfluenceFunction, retrain_on_subsets

#: Measures, and whether more (1) or less (-1) of them is better.
USES = {"lds": 1, "accuracy": -1, "poisoned": 1, "mislabeled": 1}
DEFAULT, SELECTED, NONE = "default", "ξ = 0.5", "λ -> 0"


def along(truth: Halves, spoiled: dict[str, Spoiled], made: InfluenceFunction, grid):
    """A row for each λ, and the sums of the training rows' scores there.

    ``grid`` is in units of the largest eigenvalue; so is "at" of the rows.
    """
    problem, fitted = truth.problem, made.fit(truth.model, *truth.problem.train)
    lds, path, top = truth.along(fitted), *_path(fitted, problem)
    chosen = _dampings(made, fitted, truth.model, problem, grid)
    rows = [{"choice": choice, "at": damping / top, "lds": lds(damping)}
            for choice, damping in chosen]  # fmt: skip
    totals = [path.scores(damping).sum(0) for _, damping in chosen]
    for name, found in spoiled.items():
        model = found.problem.fit()
        fitted = made.fit(model, *found.problem.train)
        path, _ = _path(fitted, found.problem)
        chosen = _dampings(made, fitted, model, found.problem, grid)
        for row, (_, damping) in zip(rows, chosen, strict=True):
            row[name] = roc_auc_score(found.bad, found.sign * path.scores(damping).sum(0))
    return rows, totals


def _path(fitted, problem):
    return fitted.damping_path(*problem.test), float(fitted.eigenvalues_.max())


def _dampings(made, fitted, model, problem, grid):
    top = float(fitted.eigenvalues_.max())
    named = [(DEFAULT, float(fitted.damping_)), (SELECTED, picked(made, model, problem.train)),
             (NONE, TINY * top)]  # fmt: skip
    return named + [("grid", float(at * top)) for at in grid]


def accuracies(truth: Halves, totals, share: float, n_repeats: int, seed: int) -> list[float]:
    """Accuracy on the test rows without the share of training rows whose totals are largest."""
    order = [np.argsort(np.argsort(-total, kind="stable")) for total in totals]
    masks = np.array(order) >= share * len(totals[0])
    found = retrain_on_subsets(
        truth.model, *truth.problem.data, masks=masks, n_repeats=n_repeats, output=is_right,
        random_state=seed,
    )  # fmt: skip
    return found.outputs.mean(axis=(1, 2)).tolist()


def means(rows: list[dict], key: str) -> tuple[list[float], np.ndarray]:
    """λ of the grid, and what every run had there, (n_runs, n_grid)."""
    grid = [r for r in rows if r["choice"] == "grid"]
    n = len(grid) // len({r["seed"] for r in grid})
    return [r["at"] for r in grid[:n]], np.array([r[key] for r in grid]).reshape(-1, n)


def at_best(rows: list[dict], key: str, by: str) -> list[float]:
    """``key`` of every run at the λ of the grid where ``by`` is best in the mean of the runs."""
    best = int(np.argmax(USES[by] * means(rows, by)[1].mean(axis=0)))
    return means(rows, key)[1][:, best].tolist()
