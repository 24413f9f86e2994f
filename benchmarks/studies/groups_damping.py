"""How near are the group forms of Fisher and TRAK to sums of point scores, by size and damping?

An MLP 784-120-40-10 on MNIST, enlarged digits without it.  All gradients are projected by one
random matrix.  Correlation over groups of the group form's scores with exact sums of point scores,
mean over queries.  With "0.01" both have this λ; with "auto" each has the one of its own default
rule.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import by_vmap
from benchmarks.measures.grouped import DAMPINGS, GROUPERS
from influencekit import TRAK, InfluenceFunction
from influencekit.groups import GroupAttributor


def methods(damping):
    options = {"damping": damping, "projection_dim": by_vmap.DIM, "random_state": 0}
    return {"Fisher": InfluenceFunction("fisher", **options), "TRAK": TRAK(**options)}


def row(size, grouper, n_train, n_test):
    task, X, y, X_test, y_test = by_vmap.problem(n_train, n_test)
    labels = GROUPERS[grouper](n_train // size, 0).fit_predict(task, X, y)
    k, rows = int(labels.max()) + 1, []
    for name, damping in DAMPINGS.items():
        for method, attributor in methods(damping).items():
            key = f"{method}, λ {name}, projected"
            _, points = by_vmap.points(n_train, n_test, key, attributor)
            exact = np.stack([points[:, labels == j].sum(1) for j in range(k)], axis=1)
            for form in ("sum", "mean"):
                grouped = GroupAttributor(attributor, curvature="groups", fisher_form=form)
                found = grouped.fit(task, X, y, groups=labels).score(X_test, y_test)
                same = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, exact, strict=True)]
                rows.append({"method": method, "form": form, "damping": name,
                             "n_groups": k, "used": grouped.damping_,
                             "correlation": float(np.mean(same))})  # fmt: skip
    return rows


def tables(rows):
    columns = [(m, d) for m in ("Fisher", "TRAK") for d in DAMPINGS]
    lines = []
    for key in dict.fromkeys((r["size"], r["grouper"]) for r in rows):
        own = [r for r in rows if (r["size"], r["grouper"]) == key]
        for form in ("sum", "mean"):
            cells = {(r["method"], r["damping"]): short(r["correlation"])
                     for r in own if r["form"] == form}  # fmt: skip
            lines.append([str(key[0]), key[1], form.upper(), *(cells[c] for c in columns)])
    head = ["mean size", "grouper", "form", *(f"{m}, λ {d}" for m, d in columns)]
    return {"correlation": Table(head, lines, 3)}


STUDY = Study(
    __doc__, row, {"size": [16, 64, 256], "grouper": list(GROUPERS)},
    {"n_train": 10_000, "n_test": 100},
    quick=Size({"size": [64], "grouper": ["random"]}, {"n_train": 256, "n_test": 4}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
