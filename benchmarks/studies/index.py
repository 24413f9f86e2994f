"""What does an index cost in bytes, seconds and accuracy, and how fast is one query?

An MLP 784-64-10.  "query ms" is the median of one query at a time, less its own forward and
backward pass; Spearman is with the attributor's own scores, of which the projection is a part.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from benchmarks.harness import Size, Study, Table, ready
from benchmarks.harness.tables import number
from benchmarks.problems import nets, tensors
from influencekit import TRAK, GradDot, InfluenceFunction, as_task
from influencekit.index import AttributionIndex


def attributors(dim, rank):
    seed = {"random_state": 0}
    return {
        "ggn, projected": (InfluenceFunction("ggn", projection_dim=dim, **seed), {}),
        "fisher, projected": (InfluenceFunction("fisher", projection_dim=dim, **seed), {}),
        "logra": (InfluenceFunction("logra", projection_dim=2 * rank**2, **seed), {}),
        "TRAK": (TRAK(projection_dim=dim, **seed), {}),
        "GradDot, projected": (GradDot(), {"projection_dim": dim, **seed}),
    }


def row(method, dtype, n, m, dim, rank):
    X, y, X_test, y_test = tensors.enough_rows(n, m)
    torch.manual_seed(0)
    module = nets.train(nets.stack_of_layers([784, 64, 10]), X, y, epochs=5)
    task = as_task(module, loss=nn.CrossEntropyLoss())
    attributor, options = attributors(dim, rank)[method]
    ready()
    with tempfile.TemporaryDirectory() as folder:
        index = AttributionIndex(attributor, Path(folder) / "i", dtype=dtype, **options)
        build, _ = seconds(lambda: index.fit(task, X, y))
        opened = AttributionIndex.open(Path(folder) / "i", task)
        some, _ = seconds(lambda: opened.top_k(X_test, y_test, k=10))
        found = opened.score(X_test, y_test)
        one = [seconds(lambda i=i: opened.top_k(X_test[i : i + 1], y_test[i : i + 1], k=10))[0]
               for i in range(m)]  # fmt: skip
    passes = [seconds(lambda i=i: gradient(module, X_test[i : i + 1], y_test[i : i + 1]))[0]
              for i in range(m)]  # fmt: skip
    exact = attributor.fit(task, X, y).score(X_test, y_test)
    return {"dim": index.dim_, "bytes": index.bytes_per_row_, "rows_per_second": n / build,
            "queries_per_second": m / some, "query_ms": 1e3 * (np.median(one) - np.median(passes)),
            "spearman": np.mean([spearmanr(a, b)[0] for a, b in zip(found, exact, strict=True)]),
            "manifest": index.rounding_["spearman"]}  # fmt: skip


def seconds(job):
    start, result = time.perf_counter(), job()
    return time.perf_counter() - start, result


def gradient(module, x, t):
    return torch.autograd.grad(nn.functional.cross_entropy(module(x), t), list(module.parameters()))


def tables(rows):
    keys = ("dim", "bytes", "rows_per_second", "queries_per_second", "query_ms", "spearman")
    lines = [[r["method"], r["dtype"], *(number(r[k]) for k in keys[:-1]),
              f"{r['spearman']:.5f}"] for r in rows]  # fmt: skip
    heads = ("numbers", "bytes a row", "rows/s", "queries/s", "query ms", "Spearman")
    return {"index": Table(["attributor", "dtype", *heads], lines)}


STUDY = Study(
    __doc__, row, {"method": list(attributors(1, 1)), "dtype": ["float32", "float16", "int8"]},
    {"n": 20_000, "m": 100, "dim": 512, "rank": 16},
    quick=Size({"method": ["TRAK"], "dtype": ["int8"]}, {"n": 60, "m": 3, "dim": 16, "rank": 2}),
    tables=tables, needs=("mnist",), fresh=True,
)  # fmt: skip
