"""Which dampings can be chosen without retraining on tables of a few hundred rows?

Data that come with scikit-learn, a skorch net on standardized columns, 60 % of the rows to train.
Half of the other rows are for tuning, half are reported.  LDS at the default damping, at the
default without the least damping of stopped classifiers, where the cosine is 0.57, where ξ is 0.5,
at the choice of LDSSearch (the tuning rows), at infinite damping, and the best of a grid.
"""

import numpy as np

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import of, short
from benchmarks.measures.lds import Halves, picked
from benchmarks.measures.private import grad_dot_cosine
from influencekit import GradDot, InfluenceFunction, LDSSearch, retrain_on_subsets
from influencekit.damping import auto_damping

GRID = np.geomspace(1e-6, 1e2, 49)
SETTINGS = [
    "breast cancer, MLP", "breast cancer, MLP, 5 epochs", "breast cancer, linear", "wine, MLP",
    "wine, linear", "iris, MLP", "diabetes, MLP",
]  # fmt: skip
CHOICES = ("default", "spectrum alone", "cosine = 0.57", "ξ = 0.5", "LDSSearch", "GradDot", "best")


def row(setting, seed, n_subsets, n_repeats, n_search, n_trials):
    problem = problems.load(f"table/{setting}", seed)
    output = "margin" if problem.spec.classifies else "prediction"
    net, half = problem.fit(), len(problem.X_test) // 2
    tuning = problem.X_test[:half], problem.y_test[:half]
    problem.X_test, problem.y_test = problem.X_test[half:], problem.y_test[half:]
    made = retrain_on_subsets(net, *problem.data, n_subsets=n_subsets, n_repeats=n_repeats,
                              output=output, random_state=seed)  # fmt: skip
    truth = Halves(problem, net, made.masks, made.outputs)
    new = InfluenceFunction(output=output)
    influence = InfluenceFunction(output=output).fit(net, *problem.train)
    alone = auto_damping(influence.curvature_)
    dampings = {"default": float(influence.damping_), "spectrum alone": alone}
    how = {"random_state": seed, "refine": True}
    for choice, criterion in (("cosine = 0.57", "cosine"), ("ξ = 0.5", "xi")):
        dampings[choice] = picked(new, net, problem.train, criterion=criterion, **how)
    search = LDSSearch(new, n_subsets=n_search, n_trials=n_trials, random_state=1000 + seed)
    search.fit(net, *problem.train, X_query=tuning[0], y_query=tuning[1])
    dampings["LDSSearch"] = search.best_params_["damping"]
    path = influence.damping_path(*problem.test)
    found = {choice: truth.of_scores(path.scores(d)) for choice, d in dampings.items()}
    found["GradDot"] = truth.of(GradDot(output=output).fit(net, *problem.train))
    grid = [truth.of_scores(path.scores(float(damping))) for damping in GRID]
    best = float(GRID[int(np.argmax(grid))])
    found["best"] = max(max(grid), *found.values())
    cosine = float(np.nanmean(grad_dot_cosine(path, [best])))
    return {**found, "n": len(problem.X), "cosine": cosine, "ceiling": truth.ceiling,
            "dampings": {**dampings, "best": best}}  # fmt: skip


def tables(rows):
    lines = []
    for name in dict.fromkeys(r["setting"] for r in rows):
        own = [r for r in rows if r["setting"] == name]
        means = [short(np.mean(of(own, key))) for key in (*CHOICES, "cosine", "ceiling")]
        lines.append([name, str(own[0]["n"]), *means])
    ratios = {choice: [r[choice] / r["best"] for r in rows] for choice in CHOICES[:-1]}
    over = [[c, short(np.mean(values)), short(min(values))] for c, values in ratios.items()]
    return {
        "LDS": Table(["setting", "n", *CHOICES, "cosine there", "attainable"], lines),
        "over the best": Table(["choice", "mean", "worst"], over),
    }


STUDY = Study(
    __doc__, row, {"setting": SETTINGS, "seed": [0, 1, 2]},
    {"n_subsets": 100, "n_repeats": 2, "n_search": 32, "n_trials": 30},
    quick=Size({"setting": ["wine, linear"], "seed": [0]},
               {"n_subsets": 6, "n_repeats": 2, "n_search": 4, "n_trials": 2}),
    tables=tables,
)  # fmt: skip
