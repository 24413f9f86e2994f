"""What does grouping training rows buy, in time and in fidelity, clustering counted?

An MLP 784-120-40-10 on MNIST, enlarged digits without it.  For each group size, grouper and method:
seconds from the fitted model to the scores of all groups, as times faster than per-example
attribution by ``vmap(grad)`` (extrapolated from a part of the rows) and than point scores of this
package, and the correlation over groups with exact sums of point scores.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.measure import cost_of
from benchmarks.harness.tables import short
from benchmarks.measures import by_vmap
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper

MOST_GROUPS = 700
GROUPERS = {
    "random": lambda size: RandomGrouper(group_size=size, random_state=0),
    "k-means, inputs": lambda size: KMeansGrouper(
        group_size=size, features="inputs", random_state=0
    ),
    "k-means, gradients": lambda size: KMeansGrouper(group_size=size, random_state=0),
}


def row(size, grouper, n_train, n_test):
    task, X, y, X_test, y_test = by_vmap.problem(n_train, n_test)
    vmap, rows = by_vmap.seconds(n_train, n_test), []
    clustering, labels = cost_of(lambda: GROUPERS[grouper](size).fit_predict(task, X, y))
    k = int(labels.max()) + 1
    sums = np.zeros((k, len(X)))
    sums[labels, np.arange(len(X))] = 1
    for name, attributor in by_vmap.methods(points=False).items():
        kind = "points" if name == "GradDot" else "groups"
        if kind == "groups" and k > MOST_GROUPS:
            continue
        alone, points = by_vmap.points(n_train, n_test, name, by_vmap.methods(points=True)[name])
        form = "sum" if grouper == "random" else "mean"
        grouped = GroupAttributor(attributor, curvature=kind, fisher_form=form)
        cost, found = cost_of(
            lambda g=grouped: g.fit(task, X, y, groups=labels).score(X_test, y_test)
        )
        total, exact = clustering["seconds"] + cost["seconds"], points @ sums.T
        same = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, exact, strict=True)]
        rows.append({"method": name, "n_groups": k, "clustering": clustering["seconds"], **cost,
                     "vmap": vmap[name], "points": alone, "over_vmap": vmap[name] / total,
                     "over_points": alone / total,
                     "correlation": float(np.mean(same)) if k > 2 else None})  # fmt: skip
    return rows


def tables(rows):
    lines = []
    for size, grouper in dict.fromkeys((r["size"], r["grouper"]) for r in rows):
        own = {r["method"]: r for r in rows if (r["size"], r["grouper"]) == (size, grouper)}
        first = own["GradDot"]
        seconds = [short(own[m]["seconds"]) if m in own else "–" for m in by_vmap.methods(True)]
        ratios = [f"{r['over_vmap']:.1f}, {r['over_points']:.2f}, {short(r['correlation'])}"
                  if (r := own.get(m)) else "–" for m in by_vmap.methods(True)]  # fmt: skip
        lines.append([str(size), grouper, short(first["clustering"]), *seconds, *ratios])
    head = ["mean size", "grouper", "clustering, s", *(f"{m}, s" for m in by_vmap.methods(True)),
            *(f"{m}, ratios" for m in by_vmap.methods(True))]  # fmt: skip
    return {"cost": Table(head, lines)}


STUDY = Study(
    __doc__, row,
    [{"size": [1], "grouper": ["random"]},
     {"size": [4, 16, 64, 256, 1024], "grouper": list(GROUPERS)}],
    {"n_train": 10_000, "n_test": 100},
    quick=Size({"size": [64], "grouper": ["random"]}, {"n_train": 256, "n_test": 4}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
