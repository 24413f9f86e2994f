"""What do fits on texts cost, beside a forward and backward pass and beside bergson's rows?

CPU seconds of one thread on the pretrained Llama of 260,000 parameters, texts of 64 tokens: the
median of three runs, with the pass in turns; of 5,000 texts one. "Rows" are projected gradients of
the linear layers in attention and MLP, the only ones that bergson takes as we do.
"""

import warnings
from functools import partial

import torch

from benchmarks.harness import Size, Study, Table, number
from benchmarks.measures import texts
from benchmarks.problems import language


def row(measured, name, n, length, n_runs, n_query):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tokens = language.texts(n + n_query, length)
    n_runs = n_runs if n <= 1000 else 1
    return {"n_query": n_query, **MEASURED[measured](name, tokens[:n], tokens[n:], n_runs)}


def tables(rows):
    head = ["fit", "texts", "a pass, CPU s", "fit", "of it eigenvectors", "16 queries",
            "peak", "passes that it reads", "(fit - eigenvectors) / these"]  # fmt: skip
    costs = ("pass", "fit", "inverse", "query")
    found = [[r["name"], f"{r['n']:,}", *(number(r[key]) for key in costs),
              f"{r['peak_mb']:.0f} MB", str(r["reads"]), number(r["over"])]
             for r in rows if r["measured"] == "fits"]  # fmt: skip
    peaks = {(r["measured"], r["name"]): f"{r.get('peak_mb') or 0:.0f} MB" for r in rows}
    beside = [[r["name"], *(number(r[k]) for k in ("pass", "ours", "bergson", "ratio")),
               f"{r['numbers']:,}", f"{r['others']:,}",
               *(peaks[f"{whose} memory", r["name"]] for whose in ("our", "its"))]
              for r in rows if r["measured"] == "rows"]  # fmt: skip
    names = ["rows", "a pass, CPU s", "ours", "bergson", "ours / bergson", "numbers", "bergson's",
             "our peak", "bergson's peak"]  # fmt: skip
    ways = ["ours", "vmap", "loop", "floor", "ratio", "difference"]
    plain = [[f"{r['n']} x {r['n_query']}", *(number(r[way]) for way in ways)]
             for r in rows if r["measured"] == "products"]  # fmt: skip
    last = ["texts x queries", "GradDot, CPU s", "vmap(grad)", "loop", "passes alone",
            "ours / fastest", "difference"]  # fmt: skip
    return {"fits": Table(head, found, 2), "rows": Table(names, beside),
            "products": Table(last, plain)}  # fmt: skip


MEASURED = {"fits": texts.fits, "rows": texts.rows, "products": texts.products,
            "our memory": partial(texts.memory, "ours"),
            "its memory": partial(texts.memory, "bergson")}  # fmt: skip
GRID = [{"measured": ["fits"], "name": list(texts.FITS), "n": [500]},
        {"measured": ["fits"], "name": ["LoGra", "Fisher"], "n": [5000]},
        {"measured": ["rows", "our memory", "its memory"], "name": list(texts.ROWS), "n": [500]},
        {"measured": ["products"], "name": ["GradDot"], "n": [500]}]  # fmt: skip
STUDY = Study(
    __doc__, row, GRID, {"length": 64, "n_runs": 3, "n_query": 16},
    quick=Size([{"measured": ["fits"], "name": ["GradDot"], "n": [8]}],
               {"length": 6, "n_runs": 1, "n_query": 2}),
    tables=tables, needs=("lm_stories260k", "tiny_shakespeare"), fresh=True, environment="bergson",
)  # fmt: skip
