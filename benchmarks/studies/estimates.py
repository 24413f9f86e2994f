"""How far are estimates before the run from what fit and queries take?

Nets d-h-3 on random rows, one thread; "cpu" is in seconds of the processor, "peak" is memory above
what was held before. Ratios are estimated by measured.
"""

import ctypes
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, cost_of, ready
from benchmarks.harness.tables import number
from influencekit import TRAK, AttributionIndex, GradCos, GradDot, InfluenceFunction, as_task

KINDS = ("seconds", "cpu", "peak MB", "disk MB")
DIM = {"projection_dim": 128, "random_state": 0}


def attributor(name, folder):
    fisher = InfluenceFunction("fisher", **DIM)
    return {
        "GradDot": GradDot(), "GradCos": GradCos(), "TRAK": TRAK(**DIM), "fisher": fisher,
        "ggn": InfluenceFunction("ggn"), "logra": InfluenceFunction("logra"),
        "ekfac": InfluenceFunction("ekfac"),
        "index": AttributionIndex(fisher, folder, dtype="float16", curvature_rows=5_000),
    }[name]  # fmt: skip


def row(method, hidden, n, n_queries, d):
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, d)).astype(np.float32), rng.integers(0, 3, n)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    task = as_task(module, loss=nn.CrossEntropyLoss())
    ready()
    with tempfile.TemporaryDirectory() as folder:
        method = attributor(method, Path(folder) / "i")
        effort, guess = cost_of(lambda: method.estimate(task, X, y, n_queries=n_queries))
        ctypes.CDLL(None).malloc_trim(0)
        cost, _ = cost_of(lambda: method.fit(task, X, y).score(X[:n_queries], y[:n_queries]))
        disk = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()) / 1e6
    peak = (guess.peak_bytes or 0) / 2**20 or None  # too small to be seen
    guesses = (guess.seconds, guess.cpu_seconds, peak, guess.disk_bytes / 1e6)
    found = (cost["seconds"], cost["cpu_seconds"], cost["peak_mb"], disk)
    return {**dict(zip(KINDS, found, strict=True)), "estimated in": effort["cpu_seconds"],
            **{f"{k} ratio": float(a / b) if b and a is not None else None
               for k, a, b in zip(KINDS, guesses, found, strict=True)}}  # fmt: skip


def tables(rows):
    heads = [*(f"{k}{more}" for k in KINDS[:3] for more in ("", " ratio")), "disk MB ratio"]
    axes = ["method", "hidden", "n"]
    lines = [[*(str(r[k]) for k in axes), *(_text(r[k]) for k in heads)] for r in rows]
    shares = [[k, *_share([r[f"{k} ratio"] for r in rows])] for k in KINDS]
    return {"estimates": Table([*axes, *heads], lines),
            "within": Table(["what", "cells", "within a factor 2"], shares)}  # fmt: skip


def _text(value):
    return "" if value is None else number(value)


def _share(ratios):
    known = [r for r in ratios if r is not None]
    return [str(len(known)), f"{sum(0.5 <= r <= 2 for r in known) / max(1, len(known)):.0%}"]


STUDY = Study(
    __doc__, row,
    [{"method": ["GradDot", "GradCos", "TRAK", "fisher", "ggn", "logra", "ekfac", "index"],
      "hidden": [4, 12], "n": [15_000, 40_000]}],
    {"n_queries": 300, "d": 40},
    Size({"method": ["GradDot"], "hidden": [2], "n": [90]}, {"n_queries": 5, "d": 3}),
    tables=tables, fresh=True,
)  # fmt: skip
