"""How fast is an index of all ACSIncome rows, and one of ten million rows?

Seconds on the clock with two threads. The census rows are built: a net 988-32-2 on one-hot columns,
"fisher" from 20,000 rows.  The ten million are random numbers in the shards of a small index.
"""

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
from influencekit.index._contents import read_contents, write_contents
from influencekit.index.files._folder import write_array

ONE, SOME = "s, one query", "s, 100 queries"


def row(rows, dtype, n, dim, shard_rows, n_queries, curvature_rows):
    torch.set_num_threads(2)
    X, y = data.acs_one_hot(n[rows] if rows == "census" else curvature_rows)
    torch.manual_seed(0)
    module = nets.train(nets.stack_of_layers([X.shape[1], 32, 2]), *dense(X[:50_000], y), epochs=2)
    task = as_task(module, loss=nn.CrossEntropyLoss())
    curvature = InfluenceFunction(
        "fisher", projection_dim=dim, projection="factored", random_state=0, max_memory="400MB")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "i"
        index = AttributionIndex(curvature, path, dtype=dtype, curvature_rows=curvature_rows,
                                 shard_rows=shard_rows, max_memory="400MB")  # fmt: skip
        build, _ = cost_of(lambda: index.fit(task, X, y))
        if rows == "random":
            fill(index, path, n[rows], shard_rows)
        index = AttributionIndex.open(path, task)
        queries = dense(X[:n_queries], y)
        index.top_k(queries[0][:1], queries[1][:1])
        alone = [seconds(lambda i=i: index.top_k(*(part[i : i + 1] for part in queries)))
                 for i in range(min(20, n_queries))]  # fmt: skip
        return {"n": index.n_train_, "bytes a row": index.bytes_per_row_,
                "rows/s": len(y) / build["seconds"], "peak MB": build["peak_mb"],
                SOME: seconds(lambda: index.top_k(*queries)), ONE: float(np.median(alone))}  # fmt: skip


def dense(X, y):
    return torch.from_numpy(X.toarray()), torch.from_numpy(y[: X.shape[0]])


def fill(index, path, n, shard_rows):
    """Random rows in place of those that were built."""
    rng = np.random.default_rng(0)
    block = rng.integers(-127, 128, (shard_rows, index.dim_)).astype(np.int8)
    shards = []
    for number_, start in enumerate(range(0, n, shard_rows)):
        own = np.roll(block, number_, axis=1)[: n - start]
        factors = np.c_[rng.uniform(0.5, 1, len(own)), np.ones((len(own), 2))]
        shards.append({
            "coordinates": write_array(path / f"coordinates-r{number_:06d}.npy", own),
            "factors": write_array(path / f"factors-r{number_:06d}.npy", factors)})  # fmt: skip
    contents = read_contents(path)
    write_contents(path, replace(contents, shards=shards, generation=1), index)


def seconds(job):
    return -time.perf_counter() + (job(), time.perf_counter())[1]


def tables(rows):
    heads = ["n", "bytes a row", "rows/s", "peak MB", SOME, ONE]
    lines = [[r["rows"], r["dtype"], *(number(r[k]) for k in heads)] for r in rows]
    return {"scale": Table(["rows", "dtype", *heads], lines)}


STUDY = Study(
    __doc__, row,
    [{"rows": ["census"], "dtype": ["float16"]}, {"rows": ["random"], "dtype": ["int8"]}],
    {"n": {"census": 665_800, "random": 10_000_000}, "dim": 256, "shard_rows": 16_384,
     "n_queries": 100, "curvature_rows": 20_000},
    quick=Size(None, {"n": {"census": 90, "random": 300}, "dim": 16, "shard_rows": 64,
                      "n_queries": 3, "curvature_rows": 60}),
    tables=tables, needs=(data.ACS_STATES,), fresh=True,
)  # fmt: skip
