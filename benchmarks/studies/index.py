"""What does an index cost in bytes, seconds and accuracy, and how fast is one query?

An MLP 784-16-10; CPU seconds.  "query ms" is the median of one query at a time, less its own
forward and backward pass; Spearman is with the attributor's own scores.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import number
from benchmarks.measures.index_folders import wall_and_cpu
from benchmarks.problems import nets, tensors
from influencekit import TRAK, AttributionIndex, GradDot, InfluenceFunction, as_task
from influencekit.curvature import LoGra

RANKS = ["Spearman", "of rounding"]


def attributors(dim, rank):
    options = {"projection_dim": dim, "random_state": 0}
    pca = {**options, "projection": "pca"}
    return {
        "fisher, projected": (InfluenceFunction("fisher", **options), {}),
        "logra, fisher": (InfluenceFunction(LoGra(rank, rows="fisher")), {}),
        "TRAK": (TRAK(**options), {}),
        "GradDot, random": (GradDot(), {**options, "projection": "rademacher"}),
        "GradDot, pca": (GradDot(), pca),
        "kfac, pca": (InfluenceFunction("kfac"), pca | {"projection_dim": 4 * dim}),
        "ekfac, pca": (InfluenceFunction("ekfac"), pca | {"projection_dim": 4 * dim}),
    }


def row(method, n, m, dim, rank):
    X, y, X_test, y_test = tensors.enough_rows(n, m)
    torch.manual_seed(0)
    module = nets.train(nets.stack_of_layers([784, 16, 10]), X, y, epochs=2)
    loss, rows = nn.CrossEntropyLoss(), []
    task = as_task(module, loss=loss)
    attributor, more = attributors(dim, rank)[method]
    exact = attributor.fit(task, X, y).score(X_test, y_test)
    passes = each(m, lambda own: torch.autograd.grad(
        loss(module(X_test[own]), y_test[own]), [*module.parameters()]))  # fmt: skip
    for dtype in ("float32", "float16", "int8"):
        with tempfile.TemporaryDirectory() as folder:
            index = AttributionIndex(attributor, Path(folder) / "i", dtype=dtype, **more)
            build = wall_and_cpu(lambda index=index: index.fit(task, X, y))[1]
            index = AttributionIndex.open(Path(folder) / "i", task)
            some = wall_and_cpu(lambda index=index: index.top_k(X_test, y_test, k=10))[1]
            one = each(m, lambda own, index=index: index.top_k(X_test[own], y_test[own], k=10))
            found = zip(index.score(X_test, y_test), exact, strict=True)
        rows.append({"dtype": dtype, "numbers": index.dim_, "bytes a row": index.bytes_per_row_,
                     "rows/s": n / build, "queries/s": m / some, "query ms": one - passes,
                     "of rounding": index.rounding_["spearman"],
                     "Spearman": np.mean([spearmanr(a, b)[0] for a, b in found])})  # fmt: skip
    return rows


def each(m, job):
    return 1e3 * np.median([wall_and_cpu(lambda i=i: job(slice(i, i + 1)))[1] for i in range(m)])


def tables(rows):
    heads = ["numbers", "bytes a row", "rows/s", "queries/s", "query ms"]
    lines = [[r["method"], r["dtype"], *(number(r[k]) for k in heads),
              *(f"{r[k]:.5f}" for k in RANKS)] for r in rows]  # fmt: skip
    return {"index": Table(["attributor", "dtype", *heads, *RANKS], lines)}


STUDY = Study(
    __doc__, row, {"method": list(attributors(1, 1))},
    {"n": 20_000, "m": 30, "dim": 256, "rank": 12},
    quick=Size({"method": ["TRAK"]}, {"n": 60, "m": 3, "dim": 16, "rank": 2}),
    tables=tables, needs=("mnist",), fresh=True,
)  # fmt: skip
