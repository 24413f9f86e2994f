"""What of λ and the projection dimension does weight decay hide?

The curvature holds the decay r of the training as a constant beside λ, so that no λ below r
changes much.  The same net is trained with and without it and retrained on random halves; LDS over
λ and the dimension to which gradients are projected, means over seeds (data, model and halves drawn
anew).
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures.lds import halves
from influencekit import InfluenceFunction


def row(data, decay, curvature, seed, sizes, epochs, n_subsets, n_repeats, dims, n_grid):
    truth = halves(f"epochs/{data}", seed, n_subsets, n_repeats, None, *sizes,
                   max_epochs=epochs, optimizer__weight_decay=decay)  # fmt: skip
    rows = []
    for dim in dims:
        made = InfluenceFunction(curvature, projection_dim=dim, random_state=seed)
        fitted = made.fit(truth.model, *truth.problem.train)
        lds = truth.along(fitted)
        rows += [{"dim": dim, "damping": d, "lds": lds(d)} for d in np.geomspace(1e-7, 1e2, n_grid)]
        rows.append({"dim": dim, "damping": "default", "lds": lds(float(fitted.damping_))})
    return rows


def means(rows):
    """Mean LDS over seeds by λ and dimension."""
    found: dict = {}
    for r in rows:
        found.setdefault((r["damping"], r["dim"]), []).append(r["lds"])
    return {key: float(np.mean(values)) for key, values in found.items()}


def tables(rows):
    dims = list(dict.fromkeys(r["dim"] for r in rows))
    first, last, falls, lines = dims[0], dims[-1], [], []
    for decay, curvature in dict.fromkeys((r["decay"], r["curvature"]) for r in rows):
        lds = means([r for r in rows if (r["decay"], r["curvature"]) == (decay, curvature)])
        fixed = [d for d, dim in lds if dim == first and d != "default"]
        fallen = [d for d in fixed if lds[d, last] < lds[d, first]]
        worst = min(fixed, key=lambda d: lds[d, last] - lds[d, first])
        example = f"{short(lds[worst, first])} → {short(lds[worst, last])} at λ = {worst:.1e}"
        falls.append([f"{decay:g}", curvature, f"{len(fallen)} of {len(fixed)}",
                      example if fallen else "–"])  # fmt: skip
        shown = {f"{d:.0e}": d for d in fixed[::2]} | {"default": "default"}
        lines += [[f"{decay:g}", curvature, name, *(short(lds[d, dim]) for dim in dims)]
                  for name, d in shown.items()]  # fmt: skip
        best = [max(lds[d, dim] for d in fixed) for dim in dims]
        lines.append([f"{decay:g}", curvature, "tuned again", *map(short, best)])
    head = ["decay", "curvature"]
    worst = f"largest fall, {first} to {last:,} dimensions"
    return {"falls": Table([*head, "λ at which the LDS falls", worst], falls, 2),
            "LDS": Table([*head, "λ", *(f"{d:,}" for d in dims)], lines, 3)}  # fmt: skip


STUDY = Study(
    __doc__, row,
    {"data": ["digits"], "decay": [5e-3, 0.0], "seed": [0, 1], "curvature": ["fisher", "ggn"]},
    {"sizes": [1000, 100], "epochs": 30, "n_subsets": 60, "n_repeats": 2,
     "dims": [64, 256, 1024, 2048], "n_grid": 19},
    quick=Size({"data": ["digits"], "decay": [0.0], "seed": [0], "curvature": ["fisher"]},
               {"sizes": [80, 20], "epochs": 2, "n_subsets": 6, "n_repeats": 1, "dims": [8, 16],
                "n_grid": 5}),
    tables=tables,
)  # fmt: skip
