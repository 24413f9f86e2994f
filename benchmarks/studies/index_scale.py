"""How fast is an index of all ACSIncome rows, and one of ten million random rows (two threads)?"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, cost_of
from benchmarks.harness.tables import number
from benchmarks.problems import data, nets
from influencekit import AttributionIndex, InfluenceFunction, as_task
from influencekit.index._contents import write_contents
from influencekit.index.files._folder import write_array

ONE, SOME = "s, one query", "s, 100 queries"


def row(rows, n, dtype, dim, shard_rows, n_queries, curvature_rows):
    torch.set_num_threads(2)
    X, y = data.acs_one_hot(n if rows == "census" else curvature_rows)
    torch.manual_seed(0)
    module = nets.train(nets.stack_of_layers([X.shape[1], 32, 2]), *dense(X[:50_000], y), epochs=2)
    task, own = as_task(module, loss=nn.CrossEntropyLoss()), {"max_memory": "400MB"}
    options = {"projection_dim": dim, "projection": "factored", "random_state": 0, **own}
    own |= {"dtype": dtype, "shard_rows": shard_rows, "curvature_rows": curvature_rows}
    with tempfile.TemporaryDirectory() as folder:
        index = AttributionIndex(InfluenceFunction("fisher", **options), Path(folder) / "i", **own)
        build, _ = cost_of(lambda: index.fit(task, X, y))
        if rows == "random":
            fill(index, n, shard_rows)
        index = AttributionIndex.open(index.folder, task)
        queries = dense(X[:n_queries], y)
        some = [seconds(lambda: index.top_k(*queries)) for _ in range(2)]
        alone = [seconds(lambda i=i: index.top_k(*(part[i : i + 1] for part in queries)))
                 for i in range(min(20, n_queries))]  # fmt: skip
    return {"bytes a row": index.bytes_per_row_, "rows/s": len(y) / build["seconds"],
            "peak MB": build["peak_mb"], SOME: some[1], ONE: float(np.median(alone))}  # fmt: skip


def dense(X, y):
    return torch.from_numpy(X.toarray()), torch.from_numpy(y[: X.shape[0]])


def fill(index, n, shard_rows):
    """Random rows in place of those that were built."""
    rng, shards = np.random.default_rng(0), []
    block = rng.integers(-127, 128, (shard_rows, index.dim_)).astype(index.dtype)
    for i, start in enumerate(range(0, n, shard_rows)):
        own = np.roll(block, i, axis=1)[: n - start]
        arrays = {"coordinates": own, "factors": rng.uniform(0.5, 1, (len(own), 3))}
        shards.append({name: write_array(index.folder / f"{name}-r{i:06d}.npy", array)
                       for name, array in arrays.items()})  # fmt: skip
    write_contents(index.folder, replace(index.contents_, shards=shards, generation=1), index)


def seconds(job):
    return -time.perf_counter() + (job(), time.perf_counter())[1]


def tables(rows):
    heads = ["n", "bytes a row", "rows/s", "peak MB", SOME, ONE]
    lines = [[r["rows"], r["dtype"], *(number(r[k]) for k in heads)] for r in rows]
    return {"scale": Table(["rows", "dtype", *heads], lines)}


STUDY = Study(
    __doc__, row,
    [{"rows": ["census"], "n": [665_800], "dtype": ["float16"]},
     {"rows": ["random"], "n": [10_000_000], "dtype": ["int8"]}],
    {"dim": 256, "shard_rows": 16_384, "n_queries": 100, "curvature_rows": 20_000},
    Size({"rows": ["census", "random"], "n": [90], "dtype": ["int8"]},
         {"dim": 16, "shard_rows": 64, "n_queries": 3, "curvature_rows": 60}),
    tables=tables, needs=("acs_income_2018",), fresh=True,
)  # fmt: skip
