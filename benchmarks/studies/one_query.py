"""How long does one query take after the fit, at 20,000 rows?

Milliseconds of one thread: the median of some queries, each of one row that was not asked before.
"""

import time

import numpy as np
import torch

from benchmarks.harness import Size, Study, Table, number, ready
from benchmarks.problems import nets
from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, TracIn

NETS = {"10-64-2": (10, 64, 2), "784-64-10": (784, 64, 10)}
METHODS = {
    "GradDot": GradDot, "GradCos": GradCos, "TracIn": TracIn,
    "Gauss-Newton, 512 dimensions": lambda: InfluenceFunction("ggn", projection_dim=512),
    "EK-FAC": lambda: InfluenceFunction("ekfac", random_state=0),
    "TRAK, 512 dimensions": lambda: TRAK(projection_dim=512, random_state=0),
}  # fmt: skip


def row(net, method, n, n_queries):
    torch.set_num_threads(1)
    rng, sizes = np.random.default_rng(0), NETS[net]
    X = rng.normal(size=(n + n_queries, sizes[0])).astype(np.float32)
    y = (X @ rng.normal(size=(sizes[0], sizes[-1]))).argmax(1)
    recipe = {"optimizer": torch.optim.Adam, "lr": 1e-3, "max_epochs": 2, "batch_size": 512}
    model = nets.skorch_net(nets.MLP, recipe, module__sizes=sizes).fit(X[:n], y[:n])
    attributor = METHODS[method]().fit(model, X[:n], y[:n])
    first, *rest = range(n, n + n_queries)
    attributor.score(X[first : first + 1], y[first : first + 1])  # what is made at the first query
    seconds, cpu = [], []
    ready()
    for i in rest:
        start, used = time.perf_counter(), time.process_time()
        attributor.score(X[i : i + 1], y[i : i + 1])
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {"n": n, "p": attributor.task_.n_parameters, "ms": 1e3 * np.median(seconds),
            "cpu_ms": 1e3 * np.median(cpu), "worst_ms": 1e3 * max(seconds)}  # fmt: skip


def tables(rows):
    head = ["net", "p", "method", "rows", "one query, CPU ms", "ms", "slowest, ms"]
    lines = [[r["net"], f"{r['p']:,}", r["method"], f"{r['n']:,}",
              *(number(r[key]) for key in ("cpu_ms", "ms", "worst_ms"))] for r in rows]  # fmt: skip
    return {"one query": Table(head, lines, 3)}


STUDY = Study(
    __doc__, row, {"net": list(NETS), "method": list(METHODS)}, {"n": 20_000, "n_queries": 41},
    quick=Size({"net": ["10-64-2"], "method": ["GradDot"]}, {"n": 50, "n_queries": 3}),
    tables=tables, fresh=True,
)  # fmt: skip
