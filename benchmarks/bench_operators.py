"""Products of the Hessian and the Gauss-Newton matrix with k vectors: ours and curvlinops'.

Run ``python benchmarks/bench_operators.py``.  The curvlinops column needs
``pip install curvlinops-for-pytorch`` and is left out without it.  "two products" is the time of
the two matrix products of the first layer alone, below which nobody gets.  curvlinops is given
the batches of our choice and one batch of everything; the better time counts.  ``--solvers``
times whole fits and scores of the curvatures that are made of such products.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
import warnings

import torch
from bench_dot_products import make_mlp
from torch import Tensor, nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import Arnoldi, ConjugateGradient, CurvatureProblem, LiSSA, Nystroem
from influencekit.curvature._operators import CurvatureOperator
from influencekit.data import make_examples
from influencekit.exceptions import InfluenceKitWarning
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent

CLOCK = time.perf_counter


def timed(function, repeats: int) -> tuple[float, Tensor]:
    """Best seconds of some runs after a first one, and the result."""
    best, result = float("inf"), function()
    for _ in range(repeats):
        start = CLOCK()
        result = function()
        best = min(best, CLOCK() - start)
    return best, result


def theirs(module, data, matrix: str):
    """Linear operator of curvlinops, or None where it is not installed."""
    if importlib.util.find_spec("curvlinops") is None:
        return None
    import curvlinops

    names = {"hessian": "HessianLinearOperator", "ggn": "GGNLinearOperator"}
    parameters = [p for p in module.parameters() if p.requires_grad]
    kind = getattr(curvlinops, names[matrix])
    return kind(module, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)


def products(module, X: Tensor, y: Tensor, ks: list[int], repeats: int) -> list[dict]:
    """Seconds of products for every matrix and number of vectors."""
    task = as_task(module, loss=nn.CrossEntropyLoss())
    n, p = len(X), task.n_parameters
    weights = torch.full((n,), 1 / n, dtype=torch.float64)
    penalty = torch.zeros(p, dtype=torch.float64)
    problem = CurvatureProblem(
        Gradients(GradientEngine(task), make_examples(task, X, y), loss_cotangent(task)),
        weights,
        penalty,
    )
    first, rows = module[0].weight.numel(), []
    for matrix in ("hessian", "ggn"):
        operator = CurvatureOperator(problem, matrix)
        for k in ks:
            vectors = torch.randn(k, p, dtype=X.dtype)
            size = operator.sizes(n, k)[0]
            seconds, found = timed(lambda v=vectors, o=operator: o.data(v), repeats)
            tangents = vectors[:, :first].reshape(-1, X.shape[1])
            least, _ = timed(lambda t=tangents: (X @ t.T).T @ X, repeats)
            row = {"matrix": matrix, "k": k, "ours": seconds, "two products": least}
            other = {}
            for batch in sorted({size, n}):
                data = list(zip(X.split(batch), y.split(batch), strict=True))
                peer = theirs(module, data, matrix)
                if peer is not None:
                    columns = vectors.T.contiguous()
                    other[batch], expected = timed(lambda o=peer, c=columns: o @ c, repeats)
                    row["difference"] = float((found.T - expected).norm() / expected.norm())
            if other:
                row["curvlinops"] = min(other.values())
            rows.append(row)
            print(row, flush=True)
    return rows


def solvers(module, X: Tensor, y: Tensor, m: int, damping: float | None) -> list[dict]:
    """Seconds of fit and score with m queries for every curvature made of products."""
    task, rows = as_task(module, loss=nn.CrossEntropyLoss()), []
    damping = "auto" if damping is None else damping
    for curvature in (Nystroem(), Arnoldi(), ConjugateGradient(), LiSSA()):
        start = CLOCK()
        influence = InfluenceFunction(curvature, damping, random_state=0).fit(task, X, y)
        fitted = CLOCK()
        solved = hasattr(influence, "solution")
        found = (influence.solution if solved else influence.score)(X[:m], y[:m])
        row = {"curvature": type(curvature).__name__, "damping": influence.damping_}
        row.update(fit=fitted - start, score=CLOCK() - fitted)
        if solved:
            row["iterations"] = float(found.iterations.mean())
        rows.append(row)
        print(row, flush=True)
    return rows


def train(module, X: Tensor, y: Tensor, epochs: int) -> None:
    """Bring the module near a minimum, as curvatures of random weights are of no use."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(X[rows]), y[rows]).backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5000, help="training examples")
    parser.add_argument("--m", type=int, default=500, help="queries of the solvers")
    parser.add_argument("--sizes", type=int, nargs="+", default=[784, 64, 10])
    parser.add_argument("--vectors", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--solvers", action="store_true")
    parser.add_argument("--damping", type=float, help="of the solvers; default automatic")
    parser.add_argument("--threads", type=int, help="torch threads; default all")
    parser.add_argument("--json", help="file to write the numbers to")
    parser.add_argument("--cpu-time", action="store_true", help="processor time: busy machines")
    args = parser.parse_args()
    global CLOCK
    CLOCK = time.process_time if args.cpu_time else time.perf_counter
    if args.threads:
        torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", InfluenceKitWarning)
    module = make_mlp(args.sizes, torch.float32)
    decay = torch.arange(1, args.sizes[0] + 1) ** -0.5  # as natural data have, roughly
    mixing = torch.linalg.qr(torch.randn(args.sizes[0], args.sizes[0])).Q
    X = (
        torch.randn(args.n, args.sizes[0])
        * decay
        @ mixing
        * (args.sizes[0] / decay.square().sum()) ** 0.5
    )
    y = (X @ torch.randn(args.sizes[0], args.sizes[-1])).argmax(1)
    train(module, X, y, epochs=20)
    rows = products(module, X, y, args.vectors, args.repeats)
    if args.solvers:
        rows += solvers(module, X, y, args.m, args.damping)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
