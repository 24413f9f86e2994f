"""What does the default damping gain from its look at the effective sample size?

Tables, digits and texts of 90 to 600 rows, and models that fit them with few errors or none.  LDS
at the damping that the spectrum alone gives and at the default, over the best LDS of a grid.
"Chosen on" settings were looked at with seeds 0 and 1 when the two constants of the default were
chosen; the others came after.
"""

import numpy as np

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.measures.lds import halves
from benchmarks.problems.registry import spec_of
from influencekit import InfluenceFunction
from influencekit.damping import auto_damping

CURVATURES = ["ggn", "fisher", "ekfac", "kfac", "logra"]
SETTINGS = [name.partition("/")[2] for name in problems.names("small/")]


def row(setting, seed, curvatures, n_subsets, n_grid):
    name = f"small/{setting}"
    more = spec_of(name).more
    truth = halves(name, seed, n_subsets, more["n_repeats"], "margin")
    members, rows = truth.masks.T.astype(float), []
    for curvature in curvatures:
        influence = InfluenceFunction(curvature, output="margin", random_state=0)
        influence.fit(truth.model, *truth.problem.train)
        path = influence.damping_path(*truth.problem.test)
        largest = float(influence.curvature_.eigenvalues.max())
        dampings = [auto_damping(influence.curvature_), float(influence.damping_)]
        dampings += list(np.geomspace(1e-7, 1e2, n_grid) * largest)
        lds = [
            float(np.nanmean(truth.prepared.correlations(path.scores(float(d)) @ members)))
            for d in dampings
        ]
        alone, default = lds[0] / max(lds), lds[1] / max(lds)
        rows.append({"curvature": curvature, "half": more["half"], "alone": alone,
                     "default": default, "best": max(lds)})  # fmt: skip
    return rows


def tables(rows):
    lines, single = [], []
    for curvature in dict.fromkeys(r["curvature"] for r in rows):
        line = [f'`"{curvature}"`']
        for half in ("chosen on", "after"):
            own = [r for r in rows if (r["curvature"], r["half"]) == (curvature, half)]
            cells = {}
            for r in own:
                cells.setdefault(r["setting"], []).append((r["alone"], r["default"]))
            pairs = [np.mean(values, 0) for values in cells.values()]
            for measure in (np.mean, np.min):
                line.append(" → ".join(f"{v:.2f}" for v in measure(pairs, 0)) if pairs else "–")
            single += [[name, curvature, half, *(f"{v:.2f}" for v in pair)]
                       for name, pair in zip(cells, pairs, strict=True)]  # fmt: skip
        lines.append(line)
    head = ["curvature", "chosen on: mean", "worst", "after: mean", "worst"]
    return {
        "alone and with it": Table(head, lines, 5),
        "settings": Table(["setting", "curvature", "half", "alone", "default"], single, 3),
    }


STUDY = Study(
    __doc__, row, {"setting": SETTINGS, "seed": [5, 6]},
    {"curvatures": CURVATURES, "n_subsets": 60, "n_grid": 37},
    quick=Size({"setting": ["iris, logistic"], "seed": [5]},
               {"curvatures": ["ggn", "ekfac"], "n_subsets": 6, "n_grid": 3}),
    tables=tables, needs=("mnist", "cifar2", "sst2", "acs_income_2018"),
)  # fmt: skip
