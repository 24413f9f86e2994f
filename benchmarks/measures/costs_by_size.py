"""Seconds, memory and matrix products of one method at one size."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.measure import timed
from benchmarks.harness.tables import Table, number
from benchmarks.problems import data, nets, tensors
from influencekit import TRAK, GradDot, InfluenceFunction, as_task
from influencekit.metrics import PreparedOutputs

DIM = 512  # of projections
N_FEATURES, N_CLASSES = 784, 10
SUBSETS = 100
#: In-place products, which FlopCounterMode does not know.
IN_PLACE = {
    torch.ops.aten.addmm_: lambda out, a, b, **_: 2 * a.numel() * b[-1],
    torch.ops.aten.baddbmm_: lambda out, a, b, **_: 2 * a.numel() * b[-1],
}

ATTRIBUTORS = {
    "graddot": lambda: GradDot(),
    "ekfac": lambda: InfluenceFunction("ekfac", damping=0.1),
    "ggn": lambda: InfluenceFunction("ggn", damping=0.1, projection_dim=DIM, random_state=0),
    "trak": lambda: TRAK(0.1, DIM, projection="rademacher", random_state=0),
    "trak_two_sided": lambda: TRAK(0.1, DIM, projection="two_sided", random_state=0),
}
DAMPING_JOBS = ("xi", "lds", "xi_after_gradients", "lds_after_gradients")


def trained(width: int) -> nn.Sequential:
    """An MLP trained on 1,000 rows, and saved."""
    source = "mnist" if data.has(data.MNIST) else "digits"
    path = tensors.FOLDER / f"scaling-{source}-{width}.pt"
    torch.manual_seed(0)
    model = nets.stack_of_layers([N_FEATURES, width, N_CLASSES])
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    X, y, *_ = tensors.enough_rows(1000, 1)
    nets.train(model, X, y, epochs=10, decay=1e-3)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model


def attribution(method, rows, model, n, m, dampings):
    """Fit and score."""

    def job(n: int, m: int):
        attributor = ATTRIBUTORS[method]()
        attributor.fit(as_task(model, loss=nn.CrossEntropyLoss()), rows[0][:n], rows[1][:n])
        return attributor.score(rows[2][:m], rows[3][:m])

    job(8, 4)  # what is loaded at first use
    return lambda: job(n, m)


def along_the_dampings(method, rows, model, n, m, dampings):
    """ξ or the LDS of 100 subsets at some dampings, with or without fit and gradients."""
    X, y, X_test, y_test = rows

    def path():
        influence = ATTRIBUTORS["ggn"]().fit(as_task(model, loss=nn.CrossEntropyLoss()), X, y)
        return influence.damping_path(X_test, y_test)

    rng = np.random.default_rng(0)
    masks = rng.random((SUBSETS, n)) < 0.5
    # ranking takes the same time whatever the outputs are
    outputs = PreparedOutputs(rng.normal(size=(SUBSETS, m)))
    grid = np.geomspace(1e-6, 10, dampings + 2)[1:-1]

    def measures(path):
        if method.startswith("xi"):
            return path.xi(grid)
        return outputs.correlations(path.subset_sums(masks).at(grid))

    ready = path()
    measures(ready)
    if method.endswith("after_gradients"):
        return lambda: measures(ready)
    return lambda: measures(path())


def closed_formula(method, n, m, width) -> float | None:
    """Flops by hand where they are a line: a check of the counter.

    One pass forward and one back to the layers' outputs are 2 (w + w - w_1) a row, with w weights,
    w_1 of them in the first layer; a dot product of two gradients of a layer is that of its inputs
    (and a one, for the bias) and that of the gradients at its outputs; a dense projection 2 p DIM.
    """
    w1, w2 = N_FEATURES * width, width * N_CLASSES
    passes = (n + m) * (2 * (w1 + w2) + 2 * w2)
    if method == "graddot":
        factors = N_FEATURES + 1 + width + width + 1 + N_CLASSES
        return passes + 2 * n * m * factors
    if method == "trak":
        p = w1 + w2 + width + N_CLASSES
        kernel = 2 * DIM * DIM * (n + m) + 2 * n * m * DIM
        return passes + 2 * (n + m) * p * DIM + kernel
    return None


def counted(job) -> float:
    """Flops of torch's matrix products in a job."""
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        job()
    return float(counter.get_total_flops())


def measure(method: str, n: int, m: int, width: int, dampings: int) -> dict:
    """Best of up to five runs, for short jobs; memory of the first."""
    rows, model = tensors.enough_rows(n, m), trained(width)
    make = along_the_dampings if method in DAMPING_JOBS else attribution
    job = make(method, rows, model, n, m, dampings)
    cost, _ = timed(job)
    seconds = [cost["seconds"]]
    while sum(seconds) < 2 and len(seconds) < 5:
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    p = sum(q.numel() for q in model.parameters())
    flops = {"flops": counted(job), "flops_formula": closed_formula(method, n, m, width)}
    return {**cost, "seconds": min(seconds), "runs": len(seconds), "p": p, **flops}


def peak_rate(size: int, runs: int = 5) -> dict:
    """Flops a second of a large square matrix product, the best of some runs."""
    rates = {}
    for dtype in (torch.float32, torch.float64):
        left = torch.rand(size, size, dtype=dtype)
        seconds = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            left @ left
            seconds.append(time.perf_counter() - start)
        rates[str(dtype).removeprefix("torch.")] = 2 * size**3 / min(seconds[1:])
    return {"size": size, "flops_per_second": rates}


# ---- series ------------------------------------------------------------------------------------

LABELS = {
    "graddot": "GradDot",
    "ekfac": "EK-FAC",
    "ggn": "GGN, 512 dimensions",
    "trak": "TRAK, dense projection",
    "trak_two_sided": "TRAK, two-sided",
    "xi": "ξ, from the fitted net on",
    "lds": "LDS, from the fitted net on",
    "xi_after_gradients": "ξ, after the gradients",
    "lds_after_gradients": "LDS, after the gradients",
}
AXES = {"n": "n", "m": "m", "width": "p", "dampings": "number of λ"}


def series(rows: list[dict], axis: str) -> dict[str, list[dict]]:
    """Points along one axis, by method, the others where the peak's cell has them."""
    base = next((r for r in rows if r["method"] == "peak"), None)
    found: dict[str, list[dict]] = {}
    for row in rows:
        along = (axis == "dampings") == (row["method"] in DAMPING_JOBS)
        fixed = [name for name in AXES if name != axis]
        if base and along and "flops" in row and all(row[k] == base[k] for k in fixed):
            found.setdefault(row["method"], []).append(row)
    ordered = {name: sorted(found[name], key=lambda r: r[axis]) for name in LABELS if name in found}
    return {name: points for name, points in ordered.items() if len(points) > 1}


def slope(points: list[dict], axis: str) -> float:
    """Exponent of the cost between the last two points."""
    last, before, value = points[-1], points[-2], "p" if axis == "width" else axis
    return float(np.log(last["seconds"] / before["seconds"]) / np.log(last[value] / before[value]))


def share(row: dict, rows: list[dict]) -> float | None:
    """Of the float32 peak."""
    peak = next((r for r in rows if r["method"] == "peak" and "flops_per_second" in r), None)
    return row["flops"] / row["seconds"] / peak["flops_per_second"]["float32"] if peak else None


def table(rows: list[dict]) -> Table:
    """Smallest and largest point of each series, its exponent, and the share of the peak."""
    lines = []
    for axis, name in AXES.items():
        for method, points in series(rows, axis).items():
            ends, value = (points[0], points[-1]), "p" if axis == "width" else axis
            shares = [share(point, rows) for point in ends]
            lines.append([
                name, LABELS[method], " to ".join(f"{p[value]:,}" for p in ends),
                " to ".join(number(p["seconds"]) for p in ends), f"{slope(points, axis):.2f}",
                " to ".join(number(p["flops"] / 1e9) for p in ends),
                "-" if None in shares else " to ".join(f"{100 * s:.0f}" for s in shares),
            ])  # fmt: skip
    head = ["along", "method", "from, to", "seconds", "exponent", "Gflop", "% of peak"]
    return Table(head, lines, 2)


def peak_table(rows: list[dict]) -> Table:
    """How fast the machine multiplies, and how near the counter is to the formulas."""
    lines = [[f"matmul peak, {dtype}", f"{rate / 1e9:.0f} Gflop/s"] for r in rows
             for dtype, rate in r.get("flops_per_second", {}).items()]  # fmt: skip
    off = [r["flops"] / r["flops_formula"] for r in rows if r.get("flops_formula")]
    if off:
        lines.append(["flops counted over the formula", f"{min(off):.3f} to {max(off):.3f}"])
    return Table(["", ""], lines)
