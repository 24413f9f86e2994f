"""How long do gradient products take on nets that are not MLPs, beside plain ways in torch?

CPU seconds of one thread: ours, ``vmap(grad)``, a loop of autograd, and a forward and backward pass
of all rows in batches, in turns in one process. A way that fails on a net has no seconds.
"""

import logging

import numpy as np
import torch

from benchmarks.harness import Size, Study, Table, number, side_by_side
from benchmarks.measures import other_nets
from benchmarks.problems.wide_nets import NETS, problem, rows_of

WAYS = ("ours", "vmap", "loop", "floor")


def row(net, times, n, m, n_runs):
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    n, m = rows_of(net, n, m)
    n *= times
    module, x, y = problem(net, n + m)
    failed = {}

    def job(way, rows=n + m, m=m):
        try:
            return getattr(other_nets, way)(module, x[:rows], y[:rows], m)
        except RuntimeError as error:
            failed[way] = str(error).splitlines()[0][:80]
            return None

    for way in WAYS:  # what torch loads at first use counts for none
        job(way, 6, 2)
    costs, found = side_by_side({way: lambda way=way: job(way) for way in WAYS}, n_runs)
    seconds = {way: None if way in failed else costs[way]["cpu_seconds"] for way in WAYS}
    plain = [seconds[way] for way in ("vmap", "loop") if seconds[way] is not None]
    exact = found["loop"]
    return {
        "n": n, "m": m, "n_parameters": sum(p.numel() for p in module.parameters()),
        "seconds": costs["ours"]["seconds"], **{f"cpu_{way}": seconds[way] for way in WAYS},
        "ratio": min(plain) / seconds["ours"],
        "over_floor": seconds["ours"] / seconds["floor"], "failed": failed,
        "difference": float(np.abs(found["ours"] - exact).max() / np.abs(exact).max()),
    }  # fmt: skip


def tables(rows):
    head = ["net", "p", "n x m", "ours: CPU s", "vmap(grad)", "loop", "passes alone",
            "fastest plain / ours", "ours / passes"]  # fmt: skip
    lines = [
        [r["net"], f"{r['n_parameters']:,}", f"{r['n']} x {r['m']}",
         number(r["cpu_ours"]),
         *("failed" if r[f"cpu_{w}"] is None else number(r[f"cpu_{w}"]) for w in WAYS[1:]),
         number(r["ratio"]), number(r["over_floor"])]
        for r in rows
    ]  # fmt: skip
    return {"other nets": Table(head, lines)}


STUDY = Study(
    __doc__, row, {"times": [1, 10], "net": list(NETS)}, {"n": None, "m": None, "n_runs": 3},
    quick=Size({"times": [1], "net": ["LSTM"]}, {"n": 6, "m": 2, "n_runs": 1}),
    small=Size({"times": [1], "net": ["ResNet-9", "LSTM"]}, {"n": 60, "m": 6, "n_runs": 1}),
    tables=tables, key="other_nets/{net}/{times}", fresh=True, limit=900,
)  # fmt: skip
