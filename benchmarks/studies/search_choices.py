"""Which λ does SurrogateLambdaSearchCV choose, beside the attributor's own and the best one?

Nets on tables, digits, texts and images, on which no constant of the search was chosen.  LDS on
random halves at the default damping, at the λ of ξ = 0.5, at the choice of the search's default
criterion, and at the best of a grid.  "Warned": the search said that the λ of ξ is a bad one.
"""

import warnings

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import of, short
from benchmarks.measures.lds import halves, spectral_grid
from influencekit import InfluenceFunction, SurrogateLambdaSearchCV

SETTINGS = [  # tables first
    "run/wine, SGD", "run/wine, AdamW", "run/breast cancer, SGD", "run/breast cancer, AdamW",
    "run/diabetes, SGD", "run/diabetes, AdamW", "run/Concrete, SGD", "run/Concrete, AdamW",
    "run/ACSIncome, SGD", "small/synthetic, 2 classes", "small/moons, AdamW",
    "small/synthetic, 4 classes", "small/ACSIncome, 600 rows, AdamW", "small/iris, AdamW",
    "small/breast cancer, linear",
    "run/digits, SGD", "run/digits, AdamW", "run/CIFAR-2, AdamW", "small/MNIST 4 and 9",
    "small/MNIST 0 and 1, AdamW", "small/digits, odd or even, AdamW", "small/SST-2, 500 rows",
    "small/CIFAR-2, CNN",
]  # fmt: skip
CHOICES = ("default", "xi", "auto")


def row(setting, curvature, seed, n_subsets, n_repeats, n_grid):
    truth = halves(setting, seed, n_subsets, n_repeats)
    train = truth.problem.train
    fitted = InfluenceFunction(curvature, random_state=seed).fit(truth.model, *train)
    found, lds = {"default": float(fitted.damping_)}, truth.along(fitted)
    for criterion in ("xi", "auto"):
        search = SurrogateLambdaSearchCV(
            InfluenceFunction(curvature, random_state=seed), criterion=criterion, random_state=seed
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search.fit(truth.model, *train)
        found[criterion] = search.best_params_["damping"]
        if criterion == "xi":
            warned = any("criterion='auto'" in str(w.message) for w in caught)
    best = max(lds(damping) for damping in spectral_grid(fitted, size=n_grid))
    scores = {choice: lds(damping) for choice, damping in found.items()}
    return {**scores, "best": max(best, *scores.values()), "ceiling": truth.ceiling,
            "warned": warned, "ratio": search.dimension_ratio_, "dampings": found}  # fmt: skip


def counts(rows):
    """Cells, those where ξ alone is better, those that warned, and those that did so rightly."""
    warned = [r for r in rows if r["warned"]]
    better = [sum(r["xi"] > r["default"] for r in rows), len(warned)]
    return [str(n) for n in (len(rows), *better, sum(r["xi"] < r["default"] for r in warned))]


def tables(rows):
    shown = (*CHOICES, "best")
    lines = [[r["setting"].split("/")[1], r["curvature"], *(short(r[c], 3) for c in shown),
              f"{r['ratio']:.2f}", "yes" if r["warned"] else "no"] for r in rows]  # fmt: skip
    means, better = [], [max(r["default"], r["xi"]) for r in rows]
    for choice in CHOICES:
        over = np.array(of(rows, choice)) / better
        means.append([choice, short(np.mean(of(rows, choice)), 4), short(over.mean(), 3),
                      short(over.min(), 3)])  # fmt: skip
    return {
        "LDS": Table(["setting", "curvature", *shown, "ratio", "xi warned"], lines, 2),
        "means": Table(["choice", "mean LDS", "over the better: mean", "worst"], means),
        "ξ alone": Table(["cells", "better than the default", "warned", "rightly"], [counts(rows)]),
    }


STUDY = Study(
    __doc__, row, {"setting": SETTINGS, "curvature": ["ggn", "fisher"], "seed": [5]},
    {"n_subsets": 80, "n_repeats": 2, "n_grid": 61},
    quick=Size({"setting": ["run/wine, SGD"], "curvature": ["ggn"], "seed": [0]},
               {"n_subsets": 6, "n_repeats": 2, "n_grid": 5}),
    tables=tables, needs=("mnist", "cifar2", "acs_income_2018", "uci_concrete", "sst2"),
)  # fmt: skip
