"""Do group scores tell what leaving a group out does?

Rows are drawn anew for each seed and partitioned three ways.  Ground truth is retraining without
each group, and on random halves of the groups.  Scores of a group: "points" are exact sums of point
scores, "groups" the k x k form of the empirical Fisher matrix, in SUM and MEAN form.  LDS over
subsets of groups; Spearman of predicted and measured effects over groups, mean over test rows.
"""

import numpy as np
from scipy.stats import spearmanr

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures.grouped import GROUPERS, attributors
from influencekit import retrain_on_subsets
from influencekit.metrics import linear_datamodeling_score


def row(data, grouper, seed, n_train, n_groups, n_test, n_subsets, n_repeats, dim,
        made=attributors):  # fmt: skip
    problem = problems.load(f"labels/{data}", seed, n_train)
    X, y = problem.train
    test = problem.X_test[:n_test], problem.y_test[:n_test]
    model = problem.fit()
    labels = GROUPERS[grouper](n_groups, seed).fit_predict(model, X, y)
    k, rng = int(labels.max()) + 1, np.random.RandomState(seed)
    inside = np.array([rng.permutation(k) < k // 2 for _ in range(n_subsets)])
    without = labels[None] != np.arange(k)[:, None]
    masks = np.concatenate([np.ones((1, len(X)), bool), without, inside[:, labels]])
    found = retrain_on_subsets(
        problem.model, X, y, *test, masks=masks, n_repeats=n_repeats, random_state=seed
    ).outputs
    full, rest, halves = found[0].mean(0), found[1 : 1 + k].mean(1), found[1 + k :]
    effects, rows = (full - rest).T, []
    for method, attributor in made(seed, dim).items():
        scores = attributor.fit(model, X, y, groups=labels).score(*test)
        each = [spearmanr(a, b).statistic for a, b in zip(scores, effects, strict=True)]
        lds = linear_datamodeling_score(halves, inside, scores).mean
        of_mean = float(spearmanr(scores.mean(0), effects.mean(0)).statistic)
        rows.append({"method": method, "lds": float(lds), "spearman": float(np.nanmean(each)),
                     "of the mean loss": of_mean})  # fmt: skip
    return rows


def tables(rows):
    names, lines = list(dict.fromkeys(r["data"] for r in rows)), []
    for grouper, method in dict.fromkeys((r["grouper"], r["method"]) for r in rows):
        cells = []
        for name in names:
            own = [r for r in rows if (r["data"], r["grouper"], r["method"])
                   == (name, grouper, method)]  # fmt: skip
            cells.append(", ".join(short(np.mean([r[k] for r in own])) for k in ("lds", "spearman"))
                         if own else "–")  # fmt: skip
        lines.append([grouper, method, *cells])
    return {"LDS, Spearman": Table(["grouper", "method", *names], lines, 2)}


STUDY = Study(
    __doc__, row,
    {"data": ["mnist", "acs", "sst2-linear"], "grouper": list(GROUPERS), "seed": [0, 1, 2]},
    {"n_train": 2000, "n_groups": 40, "n_test": 60, "n_subsets": 30, "n_repeats": 3, "dim": 1024},
    quick=Size({"data": ["wine-linear"], "grouper": ["random"], "seed": [0]},
               {"n_train": 60, "n_groups": 4, "n_test": 5, "n_subsets": 6, "n_repeats": 1,
                "dim": 16}),
    tables=tables, needs=("mnist", "acs_income_2018", "sst2"),
)  # fmt: skip
