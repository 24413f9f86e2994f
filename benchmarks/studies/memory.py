"""Is `max_memory` kept: by how much does the peak of memory grow in a fresh process?

A process fits and scores eight rows, so that libraries are loaded, and forks for each budget.  A budget
is kept where the peak grows by at most 1.1 times the budget and 30 MB; a refusal does not count as kept.
"""

import copy
import multiprocessing

import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, ready
from benchmarks.harness.measure import forget_peak, memory
from benchmarks.problems import nets
from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, TracIn, as_task
from influencekit.exceptions import ResourceError

WIDE = {"projection_dim": 512}
METHODS = {
    "GradDot": GradDot(), "GradCos": GradCos(), "TracIn": TracIn(0.1),
    "TRAK": TRAK(random_state=0, **WIDE), "default": InfluenceFunction(random_state=0),
    "fisher, 512": InfluenceFunction("fisher", random_state=0, **WIDE),
    "ggn, 512": InfluenceFunction("ggn", random_state=0, **WIDE),
    **{name: InfluenceFunction(name, 0.1, random_state=0)
       for name in ("ekfac", "kfac", "logra", "datainf", "cg", "nystroem")},
}  # fmt: skip
NETS = {
    "MLP": (lambda: nets.MLP([64, 256, 64, 2]), lambda n: torch.randn(n, 64)),
    "CNN": (nets.ResNet, lambda n: torch.randn(n, 3, 12, 12)),
    "transformer": (nets.Transformer, lambda n: torch.randint(200, (n, 16))),
}


def scored(attributor, task, X, n_query):
    y = torch.arange(len(X)) % 2
    attributor.fit(copy.deepcopy(task), X, y).score(X[:n_query], y[:n_query])


def grown(attributor, task, X, n_query):
    """MB by which the peak grows, and the error of a refusal."""
    scored(attributor, task, X[:8], 8)  # a fork begins without the pages of libraries
    forget_peak()
    before, refused = memory("VmRSS") or 0, None
    try:
        scored(attributor, task, X, n_query)
    except ResourceError as error:
        refused = str(error)
    return ((memory("VmHWM") or 0) - before) / 1e6, refused


def row(method, net, budgets, n, n_query):
    torch.set_num_threads(1)  # the threads of a process do not come along into a fork
    task = as_task(NETS[net][0](), loss=nn.CrossEntropyLoss())
    X = NETS[net][1](n)
    scored(METHODS[method], task, X[:8], 8)
    ready()
    for budget in budgets:
        attributor = copy.deepcopy(METHODS[method]).set_params(max_memory=f"{budget}MB")
        with multiprocessing.get_context("fork").Pool(1) as fresh:
            mb, refused = fresh.apply(grown, (attributor, task, X, n_query))
        kept = refused is None and mb <= 1.1 * budget + 30
        yield {"budget": budget, "mb": mb, "times": mb / budget, "kept": kept, "refused": refused}


def tables(rows):
    budgets = sorted({r["budget"] for r in rows})
    cells = {(r["method"], r["net"], r["budget"]): r for r in rows}
    said = {k: "refused" if r["refused"] else f"{r['mb']:.0f}" for k, r in cells.items()}
    lines = [[*key, *(said.get((*key, b), "") for b in budgets)]
             for key in dict.fromkeys(key[:2] for key in cells)]  # fmt: skip
    kept, worst = sum(r["kept"] for r in rows), max(r["times"] for r in rows)
    sums = [[f"{kept} of {len(rows)}", f"{worst:.2f}", str(sum(r["times"] > 1.5 for r in rows))]]
    return {"memory": Table(["method", "net", *(f"{b} MB" for b in budgets)], lines),
            "kept": Table(["kept", "worst, times the budget", "over 1.5 times"], sums, 0)}  # fmt: skip


STUDY = Study(
    __doc__, row, {"method": list(METHODS), "net": list(NETS)},
    {"budgets": [50, 100, 200, 500], "n": 2000, "n_query": 100},
    quick=Size({"method": ["GradDot"], "net": ["MLP"]}, {"budgets": [50], "n": 40, "n_query": 4}),
    tables=tables, fresh=True, limit=600,
)  # fmt: skip
