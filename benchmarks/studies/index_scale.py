"""How fast is an index of all ACSIncome rows, and one of ten million random rows (one thread)?"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, cost_of
from benchmarks.harness.tables import number
from benchmarks.measures.index_folders import fill, kill_builds, wall_and_cpu
from benchmarks.problems import data, nets
from influencekit import AttributionIndex, InfluenceFunction, as_task

TIMES = [
    f"{what}, {queries}" for queries in ("100 queries", "one query") for what in ("s", "CPU s")
]


def row(rows, n, dtype, dim, shard_rows, n_queries, curvature_rows, kills):
    torch.set_num_threads(1)  # several wait for each other on a busy machine
    X, y = data.acs_one_hot(n if rows == "census" else curvature_rows)
    torch.manual_seed(0)
    module = nets.train(nets.stack_of_layers([X.shape[1], 32, 2]), *dense(X[:50_000], y), epochs=2)
    task, own = as_task(module, loss=nn.CrossEntropyLoss()), {"max_memory": "400MB"}
    options = {"projection_dim": dim, "projection": "factored", "random_state": 0, **own}
    own |= {"dtype": dtype, "shard_rows": shard_rows, "curvature_rows": curvature_rows}
    with tempfile.TemporaryDirectory() as folder:
        index = AttributionIndex(InfluenceFunction("fisher", **options), Path(folder) / "i", **own)
        start = time.perf_counter()
        killed, before = kill_builds(index, kills, task, X, y) if rows == "census" else (0, 0)
        build, _ = cost_of(lambda: index.fit(task, X, y))
        build["seconds"] = time.perf_counter() - start  # with the killed ones
        if rows == "random":
            fill(index, n)
        index = AttributionIndex.open(index.folder, task)
        queries = dense(X[:n_queries], y)
        some = [wall_and_cpu(lambda: index.top_k(*queries)) for _ in range(2)]
        alone = [wall_and_cpu(lambda i=i: index.top_k(*(part[i : i + 1] for part in queries)))
                 for i in range(min(20, n_queries))]  # fmt: skip
    found = dict(zip(TIMES, [*some[1], *np.median(alone, axis=0).tolist()], strict=True))
    return {"bytes a row": index.bytes_per_row_, "rows/s": len(y) / build["seconds"],
            "kills": killed, "peak MB": max(before, build["peak_mb"]), **found}  # fmt: skip


def dense(X, y):
    return torch.from_numpy(X.toarray()), torch.from_numpy(y[: X.shape[0]])


def tables(rows):
    heads = ["n", "bytes a row", "rows/s", "kills", "peak MB", *TIMES]
    lines = [[r["rows"], r["dtype"], *(number(r[k]) for k in heads)] for r in rows]
    return {"scale": Table(["rows", "dtype", *heads], lines)}


STUDY = Study(
    __doc__, row,
    [{"rows": ["census"], "n": [665_800], "dtype": ["float16"]},
     {"rows": ["random"], "n": [10_000_000], "dtype": ["int8"]}],
    {"dim": 256, "shard_rows": 16_384, "n_queries": 100, "curvature_rows": 20_000, "kills": 3},
    Size({"rows": ["census", "random"], "n": [90], "dtype": ["int8"]},
         {"dim": 16, "shard_rows": 64, "n_queries": 3, "curvature_rows": 60, "kills": 1}),
    tables=tables, needs=("acs_income_2018",), fresh=True,
)  # fmt: skip
