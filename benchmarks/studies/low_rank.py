"""What error have EK-FAC's scores in low rank, and what do they save?"""

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, cost_of
from benchmarks.harness.tables import number
from benchmarks.problems import nets, tensors
from influencekit import InfluenceFunction, as_task
from influencekit.curvature import EKFAC


def row(widths, n, m, tolerances, factors):
    X, y, X_test, y_test = tensors.enough_rows(n, m)
    torch.manual_seed(0)
    module = nets.train(nets.stack_of_layers(widths), X, y, epochs=15)
    task, rows = as_task(module, loss=nn.CrossEntropyLoss()), []
    exact = InfluenceFunction(EKFAC("true", tolerance=0)).fit(task, X, y)
    for damping in [factor * exact.damping_ for factor in factors]:
        expected = exact.set_damping(damping).score(X_test, y_test)
        size = np.sqrt(np.mean(expected**2))
        for tolerance in tolerances:
            fitted = InfluenceFunction(EKFAC("true", tolerance=tolerance), damping).fit(task, X, y)
            cost, found = cost_of(lambda f=fitted: f.score(X_test, y_test))
            same = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, expected, strict=True)]
            rows.append({"damping": damping, "tolerance": tolerance, "score s": cost["seconds"],
                         "rms error": np.sqrt(np.mean((found - expected) ** 2)) / size,
                         "largest error": np.abs(found - expected).max() / size,
                         "1 - worst correlation": 1 - min(same)})  # fmt: skip
    return rows


def tables(rows):
    keys = (
        "damping",
        "tolerance",
        "rms error",
        "largest error",
        "1 - worst correlation",
        "score s",
    )
    lines = [["-".join(map(str, r["widths"])), *(number(r[key]) for key in keys)] for r in rows]
    return {"errors": Table(["net", *keys], lines)}


STUDY = Study(
    __doc__, row, {"widths": [[784, 64, 10], [784, 512, 128, 10]]},
    {"n": 5000, "m": 500, "tolerances": [1e-3, 1e-4, 1e-5], "factors": [0.1, 1, 10]},
    quick=Size({"widths": [[784, 8, 10]]},
               {"n": 60, "m": 5, "tolerances": [1e-3], "factors": [1]}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
