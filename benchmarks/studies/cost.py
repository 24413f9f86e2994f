"""What do fit, top examples, scores, and scores at another damping take, in time and memory?

MLPs on MNIST, on Gaussian clusters without it.
"""

import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, cost_of, ready
from benchmarks.harness.measure import forget_peak, memory
from benchmarks.harness.tables import number
from benchmarks.problems import nets, tensors
from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.curvature import EKFAC, KFAC, ConjugateGradient, DataInf, LoGra, Nystroem

WIDE = {"projection_dim": 2048}
METHODS = {
    "GradDot": None,
    "EK-FAC, all labels": lambda: (EKFAC("true"), {}),
    "EK-FAC, drawn labels": lambda: (EKFAC("sampled"), {}),
    "EK-FAC, given labels": lambda: (EKFAC("empirical"), {}),
    "K-FAC, all labels": lambda: (KFAC("true"), {}),
    "Fisher, 2,048 dimensions": lambda: ("fisher", WIDE),
    "GGN, 2,048 dimensions": lambda: ("ggn", WIDE),
    "DataInf": lambda: (DataInf(), {}),
    "LoGra": lambda: (LoGra(), {}),
    "LoGra, Fisher": lambda: (LoGra(rows="fisher"), {}),
    "Nystroem": lambda: (Nystroem(), {}),
    "conjugate gradients": lambda: (ConjugateGradient(), {}),
}


def row(method, n, m, widths, max_memory, again):
    X, y, X_test, y_test = tensors.first_images(n, m)
    torch.manual_seed(0)
    module = nets.stack_of_layers(widths)
    nets.train(module, X, y, epochs=3 if n >= 20_000 else 15, batch=128, decay=1e-3)
    task = as_task(module, loss=nn.CrossEntropyLoss())
    attributor, found = GradDot(max_memory=max_memory), {"p": task.n_parameters}
    if METHODS[method]:
        curvature, more = METHODS[method]()
        attributor = InfluenceFunction(curvature, max_memory=max_memory, random_state=0, **more)
    ready()
    forget_peak()
    found["before_gb"] = (memory("VmRSS") or 0) / 2**30

    def stage(name, job):
        cost, _ = cost_of(job)
        found[name], found[f"{name} cpu"] = cost["seconds"], cost["cpu_seconds"]
        found[f"{name} peak_gb"] = (memory("VmHWM") or 0) / 2**30

    stage("fit", lambda: attributor.fit(task, X, y))
    stage("top_k", lambda: attributor.top_k(X_test, y_test, k=10))
    stage("score", lambda: attributor.score(X_test, y_test))
    if again and hasattr(attributor, "damping_"):
        attributor.set_damping(2 * attributor.damping_)
        stage("next damping", lambda: attributor.score(X_test, y_test))
    return found


def tables(rows):
    keys = ("fit", "top_k", "score", "next damping", "fit peak_gb", "top_k peak_gb",
            "score peak_gb", "before_gb")  # fmt: skip
    lines = [[r["method"], f"{r['n']:,} x {r['m']:,}", f"{r['p']:,}",
              *(number(r.get(key)) for key in keys)] for r in rows]  # fmt: skip
    return {"cost": Table(["method", "n x m", "p", *keys], lines, 2)}


def of(n, m, widths):
    return {"method": list(METHODS), "n": [n], "m": [m], "widths": [widths]}


STUDY = Study(
    __doc__, row,
    [{**of(60_000, 1_000, [784, 128, 10]), "method": list(METHODS)[:3] + list(METHODS)[5:7]},
     of(5_000, 500, [784, 64, 10]), of(5_000, 500, [784, 512, 128, 10])],
    {"max_memory": "3GB", "again": True},
    quick=Size({**of(60, 10, [784, 8, 10]), "method": ["GradDot", "EK-FAC, all labels"]}),
    tables=tables, needs=("mnist",), fresh=True, limit=900,
)  # fmt: skip
