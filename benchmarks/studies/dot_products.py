"""How much faster are dot products of gradients from factors than from ``vmap(grad)``?

Both sides compute the (n, m) matrix of dot products of per-example loss gradients of the same MLP,
in turns in this process; the reference does so with every chunk size and the best time counts.
"""

import torch

from benchmarks.harness import Size, Study, Table, number, plain_loop, side_by_side
from benchmarks.measures import by_vmap
from benchmarks.problems.nets import stack_of_layers
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from influencekit.models import CrossEntropy, Task


def row(job, n, m, sizes, chunks, dtype, n_runs):
    kind = getattr(torch, dtype)
    torch.manual_seed(0)
    module = stack_of_layers(sizes).to(kind).eval()
    x, y = torch.randn(n + m, sizes[0], dtype=kind), torch.randint(sizes[-1], (n + m,))
    train, test = (x[:n], y[:n]), (x[n:], y[n:])

    def ours(accumulate=kind):
        task = Task(module, CrossEntropy())
        engine, cotangent = GradientEngine(task), loss_cotangent(task)
        first, second = (make_examples(task, *rows) for rows in (train, test))
        return Gradients(engine, first, cotangent).dot(
            Gradients(engine, second, cotangent), dtype=accumulate
        )

    ours()  # libraries load
    jobs = {"ours": ours, "float64 sums": lambda: ours(torch.float64)}
    costs, results = side_by_side(jobs, n_runs)
    plain, _ = side_by_side({str(c): lambda c=c: by_vmap.dot(module, train, test, c)
                             for c in chunks})  # fmt: skip
    best = min(plain, key=lambda c: plain[c]["seconds"])
    expected = by_vmap.dot(module, train, test, int(best))
    return {
        "n": n, "m": m, "n_parameters": sum(p.numel() for p in module.parameters()),
        "dtype": dtype, "threads": torch.get_num_threads(), **costs["ours"],
        "seconds_float64_sums": costs["float64 sums"]["seconds"],
        "reference_seconds": {c: cost["seconds"] for c, cost in plain.items()},
        "best_chunk": int(best), "ratio": plain[best]["seconds"] / costs["ours"]["seconds"],
        "cpu_ratio": plain[best]["cpu_seconds"] / costs["ours"]["cpu_seconds"],
        "relative_difference": float((results["ours"] - expected).norm() / expected.norm()),
    }  # fmt: skip


def tables(rows):
    keys = ("n", "m", "n_parameters", "seconds", "best_chunk", "ratio", "cpu_ratio")
    r = rows[0]
    text = (f"gradient products of {r['n']:,} x {r['m']:,} rows, p = {r['n_parameters']:,}, "
            "against `vmap(grad)` with its best chunk")  # fmt: skip
    plain = r["reference_seconds"][str(r["best_chunk"])]
    difference = f"{r['relative_difference']:.0e} of the norm"
    return {"dot products": Table(list(keys), [[number(r[k]) for k in keys] for r in rows]),
            "plain loop": plain_loop(text, r["seconds"], plain, difference)}  # fmt: skip


STUDY = Study(
    __doc__, row, {"job": ["dot_products"]},
    {"n": 5000, "m": 500, "sizes": [784, 300, 200, 10], "chunks": [64, 256, 512],
     "dtype": "float32", "n_runs": 10},
    quick=Size(settings={"n": 40, "m": 10, "sizes": [20, 8, 3], "chunks": [20], "n_runs": 1}),
    small=Size(settings={"n": 1000, "m": 200}),
    tables=tables, key="short/{job}", fresh=True, limit=600,
)  # fmt: skip
