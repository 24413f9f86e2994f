"""How well does every attributor predict retraining, as it comes and at its best damping?

Digits and an MLP 64-32-10, 100 queries, random halves of the training rows.  "default" is the
attributor with no parameter set, "xi" the pick of SurrogateLambdaSearchCV at its default threshold,
"best" the best of a grid of dampings, which looks at the answer.  Attributors marked "x 5" average
five models trained with other seeds.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import of, short
from benchmarks.measures import attributors
from benchmarks.measures.lds import halves, picked, spectral_grid

RECIPES = {"digits-sgd-decay": "SGD", "digits-adamw": "AdamW"}
#: Of attributors that are fitted or solved again for every damping.
SPARSE = np.geomspace(1e-4, 1e1, 11)


def row(problem, attributor, seed, n_subsets, n_repeats, n_train, n_grid):
    truth = halves(problem, seed, n_subsets, n_repeats, n_train=n_train)
    models = attributors.models_of(attributor, truth.problem, truth.model)
    fitted = attributors.make(attributor).fit(models, *truth.problem.train)
    found = {"default": truth.of(fitted), "ceiling": truth.ceiling}
    if not hasattr(fitted, "damping_"):
        return found
    found["default_damping"] = float(np.mean(fitted.damping_))
    grid = SPARSE[:: max(1, 57 // n_grid)]
    if hasattr(fitted, "eigenvalues_"):
        grid = spectral_grid(fitted, 1e-6, 10, n_grid)
        own = attributors.make(attributor)
        damping = picked(own, models, truth.problem.train, random_state=0)
        found["xi"] = truth.of(fitted.set_damping(damping))
    values = [found["default"]]
    for damping in grid:
        try:
            values.append(truth.of(fitted.set_damping(float(damping))))
        except ValueError:  # a diverging series or an indefinite matrix has no scores there
            continue
    return {**found, "best": max(values), "ratio": found["default"] / max(values)}


def tables(rows):
    ways = ("default", "xi", "best")
    lines = []
    for name in dict.fromkeys(r["attributor"] for r in rows):
        line = [name]
        for recipe in RECIPES:
            own = [r for r in rows if (r["attributor"], r["problem"]) == (name, recipe)]
            undamped = own and "best" not in own[0]
            values = [of(own, way) for way in ways]
            line += ["" if not v or (undamped and i) else short(np.mean(v), 3)
                     for i, v in enumerate(values)]  # fmt: skip
        lines.append(line)
    head = [f"{r}: {ways[0]}" if not i else w for r in RECIPES.values() for i, w in
            enumerate(("default", "ξ", "best"))]  # fmt: skip
    return {"LDS": Table(["", *head], lines)}


STUDY = Study(
    __doc__, row,
    {"problem": list(RECIPES), "attributor": attributors.as_they_come(), "seed": [0]},
    {"n_subsets": 100, "n_repeats": 3, "n_train": None, "n_grid": 57},
    quick=Size({"problem": ["digits-adamw"], "attributor": ["Loss", "TRAK", "ggn"], "seed": [0]},
               {"n_subsets": 6, "n_repeats": 2, "n_train": 100, "n_grid": 3}),
    tables=tables,
)  # fmt: skip
