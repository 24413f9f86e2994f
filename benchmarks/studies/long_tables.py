"""What do the default's scores of long tables cost, and do they lose accuracy?

A small net on ACSIncome, ten columns as numbers; from 100,000 rows on the default takes the
Gauss-Newton matrix of 50,000 of them. CPU seconds of one thread, and the linear datamodeling score
minus that of the matrix of all rows, on the same halves; the standard error is by a bootstrap over
subsets.
"""

import numpy as np
import torch
from sklearn.base import clone
from sklearn.preprocessing import scale

from benchmarks.harness import Size, Study, Table, cost_of, number, ready
from benchmarks.measures.paired import bootstrapped
from benchmarks.problems import data, nets
from influencekit import InfluenceFunction, retrain_on_subsets

RECIPE = {"optimizer": torch.optim.Adam, "lr": 2e-3, "batch_size": 512}
CURVATURES = {"default": "auto", "all rows": "ggn"}


def row(n, n_query, n_steps, n_subsets, n_repeats, n_bootstraps, n_runs):
    torch.set_num_threads(1)
    X, y = data.acs_codes(n + n_query)
    order = np.random.default_rng(0).permutation(len(X))  # the file is sorted by state
    X, y = scale(X.astype(float)).astype(np.float32)[order], y[order]
    train, test = (X[n_query:], y[n_query:]), (X[:n_query], y[:n_query])
    epochs = max(1, round(n_steps * RECIPE["batch_size"] / n))
    net = nets.skorch_net(nets.MLP, {**RECIPE, "max_epochs": epochs}, module__sizes=(10, 64, 2))
    net.fit(*(part[:600] for part in train))
    ready()
    trained = cost_of(lambda: net.fit(*train))[0]
    how = {"n_subsets": n_subsets, "n_repeats": n_repeats, "random_state": 0}
    truth = retrain_on_subsets(clone(net), *train, *test, **how)
    masks, costs, sums = truth.masks.T.astype(float), {}, []
    for name, curvature in CURVATURES.items():
        runs = []
        for _ in range(n_runs):
            influence = InfluenceFunction(curvature)
            fit = cost_of(lambda i=influence: i.fit(net, *train))[0]
            query, scores = cost_of(lambda i=influence: i.score(*test))
            runs.append((fit["cpu_seconds"], query["cpu_seconds"], fit["peak_mb"]))
        costs[name] = np.median(runs, axis=0).tolist()
        sums.append(scores @ masks)
    lds = bootstrapped(sums, truth.outputs.mean(1).T, n_bootstraps)
    difference = lds[0] - lds[1]
    return {"p": influence.task_.n_parameters, "training": trained["cpu_seconds"], "costs": costs,
            "lds": lds[0, 0], "exact": lds[1, 0], "difference": difference[0], "epochs": epochs,
            "error": difference[1:].std(), "subsets": n_subsets}  # fmt: skip


def tables(rows):
    head = ["rows", "training, CPU s", "default: fit", "queries", "peak", "all rows: fit",
            "queries", "LDS", "of all rows", "difference", "standard error"]  # fmt: skip
    lines = []
    for r in rows:
        (fit, query, peak), (own_fit, own_query, _) = (r["costs"][name] for name in CURVATURES)
        lines.append([f"{r['n']:,}", *map(number, (r["training"], fit, query)), f"{peak:.0f} MB",
                      *map(number, (own_fit, own_query, r["lds"], r["exact"], r["difference"],
                                    r["error"]))])  # fmt: skip
    return {"long tables": Table(head, lines)}


STUDY = Study(
    __doc__, row, {"n": [20_000, 100_000, 300_000, 665_000]},
    {"n_query": 100, "n_steps": 800, "n_subsets": 40, "n_repeats": 2, "n_bootstraps": 200,
     "n_runs": 3},
    quick=Size({"n": [200]}, {"n_query": 4, "n_steps": 2, "n_subsets": 4, "n_repeats": 1,
                              "n_bootstraps": 5, "n_runs": 1}),
    tables=tables, needs=("acs_income_2018",), fresh=True,
)  # fmt: skip
