"""How close does each way to a damping come to the best one, on digits?

For each recipe and seed (split, model and subsets all drawn anew) an MLP 64-32-10 is retrained on
random halves.  For each curvature: the LDS at the library's default damping, at the surrogate
indicator's picks (queries from the training data), and at the best of a fine grid.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import attributors
from benchmarks.measures.lds import halves, picked, spectral_grid

RECIPES = {"digits-sgd-decay": "SGD, decay", "digits-sgd": "SGD, no decay", "digits-adamw": "AdamW"}
EXACT = ["fisher", "fisher, 512", "ggn", "ggn, 512"]
#: Curvatures by other parameters, what the docstrings of the curvatures quote.
OTHERS = ["hessian", "arnoldi", "nystroem", "cg", "datainf", "logra", *attributors.NAMED]
THRESHOLDS = (0.5, 0.37)


def row(problem, curvature, seed, n_subsets, n_repeats, n_train, n_grid):
    truth = halves(problem, seed, n_subsets, n_repeats, n_train=n_train)
    train = truth.problem.train
    exact = curvature in EXACT
    influence = attributors.make(curvature, seed if exact else 0)
    fitted = influence.fit(truth.model, *train)
    found = {"default": truth.of(fitted), "default_damping": float(np.mean(fitted.damping_))}
    if not hasattr(fitted, "eigenvalues_"):
        return found
    lds = truth.along(fitted)
    for threshold in THRESHOLDS if exact else ():
        damping = picked(influence, truth.model, train, threshold=threshold, random_state=seed)
        found[f"xi={threshold}"] = lds(damping)
    grid = spectral_grid(fitted, size=n_grid)
    if curvature == "hessian, keep":  # where it is positive definite
        low = 1.05 * max(grid[0] / 1.05, -float(np.min(fitted.eigenvalues_)))
        grid = np.geomspace(low, grid[-1], n_grid)
    values = [lds(damping) for damping in grid]
    best = int(np.argmax(values))
    found |= {"best": values[best], "best_damping": grid[best], "ceiling": truth.ceiling}
    if exact:
        path = fitted.damping_path(*truth.problem.test)
        found["xi_at_best"] = float(np.nanmean(path.xi([grid[best]])))
    return found


def tables(rows):
    ways = ("default", "xi=0.5", "xi=0.37", "best", "ceiling")
    lines, others = [], []
    for problem, curvature in dict.fromkeys((r["problem"], r["curvature"]) for r in rows):
        own = [r for r in rows if (r["problem"], r["curvature"]) == (problem, curvature)]
        means = {w: np.mean([r[w] for r in own]) for w in ways if w in own[0]}
        if curvature in EXACT:
            kind, _, dim = curvature.partition(", ")
            name = {"fisher": "Fisher", "ggn": "GGN"}[kind]
            lines.append([RECIPES[problem], name, dim or "–", *(short(means[w]) for w in ways)])
        else:
            others.append([RECIPES[problem], curvature, short(means["default"], 3),
                           short(means.get("best"), 3) if "best" in means else "–"])  # fmt: skip
    ratios, head = [], ["recipe", "curvature", "projected to", "default", "ξ = 0.5", "ξ = 0.37"]
    for way in ways[:3]:
        over = [r[way] / r["best"] for r in rows if "best" in r and way in r]
        ratios += [[way, short(min(over)), short(max(over))]] if over else []
    return {
        "choices": Table([*head, "best", "attainable"], lines, 8),
        "others": Table(["recipe", "curvature", "default", "best"], others, 2),
        "over the best": Table(["choice", "worst", "best"], ratios),
    }


STUDY = Study(
    __doc__, row,
    [{"problem": list(RECIPES), "curvature": EXACT, "seed": [0, 1, 2]},
     {"problem": list(RECIPES), "curvature": OTHERS, "seed": [0, 1]}],
    {"n_subsets": 100, "n_repeats": 3, "n_train": None, "n_grid": 91},
    quick=Size({"problem": ["digits-adamw"], "curvature": ["ggn, 512", "datainf"], "seed": [0]},
               {"n_subsets": 6, "n_repeats": 2, "n_train": 100, "n_grid": 5}),
    tables=tables,
)  # fmt: skip
