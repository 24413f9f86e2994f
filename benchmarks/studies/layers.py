"""Are the gradients of every architecture right, and what do they cost beside a plain loop?

Scores of GradDot for two rows by two, in float32 and float64, against autograd in float64, one
example at a time. A model is right if the float32 error is at most three times that of float32
autograd, or 1e-5, and the float64 error at most 1e-8. The environment "models" has the libraries.
"""

import time
import warnings
from collections import Counter

import torch

from benchmarks.harness import Size, Study, Table, number
from benchmarks.measures.one_by_one import Logits, by_loop
from benchmarks.problems.architectures import CLASSES, NAMES, ROWS, build
from influencekit import GradDot, as_task
from influencekit.models import CrossEntropy

K = 2


def ours(net, X, y):
    fitted = GradDot().fit(as_task(net, loss=CrossEntropy()), X[:K], y[:K])
    return torch.from_numpy(fitted.score(X[K:], y[K:]))


def row(model):
    warnings.simplefilter("ignore")
    module, X = build(model)
    net, y = Logits(module), torch.arange(ROWS) % CLASSES
    # built again: a deep copy of a scripted module computes its gradients in float32
    wide, X64 = Logits(build(model)[0]).double(), X.double() if X.is_floating_point() else X
    exact = by_loop(wide, X64, y, K)
    error = lambda found: float((found - exact).abs().max() / exact.abs().max())  # noqa: E731
    start = time.process_time()
    plain = by_loop(net, X, y, K)
    loop = time.process_time() - start
    start = time.process_time()
    found = ours(net, X, y)
    seconds = time.process_time() - start
    one, two, three = error(found), error(plain), error(ours(wide, X64, y))
    return {"parameters": sum(p.numel() for p in net.parameters()), "error_32": one,
            "autograd_32": two, "error_64": three, "seconds": seconds, "loop_seconds": loop,
            "right": one <= max(3 * two, 1e-5) and three <= 1e-8}  # fmt: skip


def tables(rows):
    of = [(r["model"].partition("/")[0], r) for r in rows]
    counts = Counter((library, bool(r.get("right"))) for library, r in of)
    lines = [[name, str(counts[name, True]), str(counts[name, False])] for name in dict(of)]
    done = [r for r in rows if "error_64" in r]
    keys = ("error_32", "autograd_32", "error_64")
    wrong = [[r["model"], *(number(r[k]) for k in keys)] for r in done if not r["right"]]
    worst = Table(["model", *keys], wrong)
    return {"layers": Table(["library", "right", "not right"], lines), "layers not right": worst}


STUDY = Study(
    __doc__, row, {"model": NAMES}, {}, quick=Size({"model": ["own/conv"]}), tables=tables,
    environment=lambda cell: None if cell["model"].startswith("own/") else "models",
    shows_failures=True,
)  # fmt: skip
