"""How long do libraries take on convolutions, transformers, language models and an LSTM?

CPU seconds of one thread, fit and scores, each library with its own damping, in a process of its
own: the median of some runs after one that counts for none. Random weights and data: only cost
counts. "covers" is the share of parameters that a library scores; it leaves others out.
"""

import logging
from statistics import median

import numpy as np
import torch
from torch import nn

from benchmarks import peers
from benchmarks.harness import Size, Study, Table, number, timed
from benchmarks.problems import wide_nets

METHODS = {"graddot": "GradDot", "kfac": "K-FAC", "ekfac": "EK-FAC"}
LIBRARIES = ("influencekit", "captum", "kronfluence")
FACTORED = ["ResNet-9", "ViT", "GPT-2, 512 words, tied", "BERT with mask"]  # factors are small
ENOUGH = 0.95  # share of the parameters from where on costs are compared


def covered(library, net):
    """Share of the parameters that a library scores."""
    if library == peers.OURS:
        return 1.0
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    known = {p for layer in layers for p in layer.parameters(recurse=False)}
    return sum(p.numel() for p in known) / sum(p.numel() for p in net.parameters())


def row(net, method, library, n_runs, n, m):
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    (n, m), peer = wide_nets.rows_of(net, n, m), peers.load(library)
    damping = "auto" if library == peers.OURS else 1e-8
    job, problem = peer.METHODS[method], wide_nets.for_libraries(net, n, m, damping)
    job(wide_nets.for_libraries(net, 6, 2, damping))  # what is loaded at first use
    runs = [timed(lambda: job(problem)) for _ in range(n_runs)]
    scores, options = runs[-1][1]
    return {
        "n": n, "m": m, "p": problem.p, "covers": covered(library, problem.model),
        **{key: median(cost[key] for cost, _ in runs) for key in ("seconds", "cpu_seconds")},
        "peak_mb": max(cost["peak_mb"] for cost, _ in runs), "options": options,
        "undefined": int(np.sum(~np.isfinite(scores))), "version": peers.version_of(library),
    }  # fmt: skip


def said(found):
    if found is None or "failed" in found:
        return found["failed"].split(":")[0] if found else "-"
    covers = f", covers {found['covers']:.2f}" if found["covers"] < 0.995 else ""
    return f"{number(found['cpu_seconds'])} ({found['peak_mb']:.0f} MB{covers})"


def tables(rows):
    cells = {(r["net"], r["method"], r["library"]): r for r in rows}
    lines = []
    for net, method in dict.fromkeys(key[:2] for key in cells):
        found = [cells.get((net, method, library)) for library in LIBRARIES]
        done = [f for f in found if f and f.get("covers", 0) >= ENOUGH]
        seconds = [f["cpu_seconds"] for f in done]
        ratio = number(min(seconds[1:]) / seconds[0]) if len(seconds) > 1 else "-"
        lines.append([METHODS[method], net, *map(said, found), ratio])
    return {"cost": Table(["method", "net", *LIBRARIES, "fastest other / ours"], lines, 2)}


GRID = [{"net": FACTORED if "kfac" in method else list(wide_nets.NETS), "method": [method],
         "library": [name for name in LIBRARIES if method in peers.METHODS[name].split()]}
        for method in METHODS]  # fmt: skip
STUDY = Study(
    __doc__, row, GRID, {"n_runs": 3, "n": None, "m": None},
    quick=Size([{"net": ["LSTM"], "method": ["graddot"], "library": ["influencekit"]}],
               {"n_runs": 1, "n": 6, "m": 2}),
    tables=tables, key="wide/{net}/{method}/{library}", fresh=True, limit=300,
    environment=peers.environment, shows_failures=True,
)  # fmt: skip
