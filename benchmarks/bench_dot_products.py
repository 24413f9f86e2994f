"""Full-parameter gradient dot products: influencekit's factors against vmap(grad) of torch.func.

Run ``python benchmarks/bench_dot_products.py``.  Both sides compute the (n, m) matrix of dot
products of per-example loss gradients of the same multilayer perceptron; the reference does so
with every chunk size and the best time counts.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from influencekit.models import CrossEntropy, Task

CLOCK = time.perf_counter


def make_mlp(sizes: list[int], dtype: torch.dtype) -> nn.Module:
    """A multilayer perceptron with ReLU between its layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for d_in, d_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(dtype).eval()


def reference_dot(module: nn.Module, a: tuple, b: tuple, chunk_size: int) -> Tensor:
    """Dot products of dense gradients from vmap(grad): b's once, a's a chunk at a time."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(values, x, y):
        output = torch.func.functional_call(module, values, (x[None],))
        return F.cross_entropy(output, y[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def dense(x: Tensor, y: Tensor) -> list[Tensor]:
        return [g.flatten(1) for g in gradients(parameters, x, y).values()]

    parts = [dense(*(t[i : i + chunk_size] for t in b)) for i in range(0, len(b[0]), chunk_size)]
    right = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
    rows = []
    for i in range(0, len(a[0]), chunk_size):
        left = dense(*(t[i : i + chunk_size] for t in a))
        rows.append(sum(g @ h.T for g, h in zip(left, right, strict=True)))
    return torch.cat(rows)


def timed(function, repeats: int = 1) -> tuple[float, Tensor]:
    """Best seconds of some runs on this benchmark's clock, and the result."""
    best = float("inf")
    for _ in range(repeats):
        start = CLOCK()
        result = function()
        best = min(best, CLOCK() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5000, help="training examples")
    parser.add_argument("--m", type=int, default=500, help="test examples")
    parser.add_argument("--sizes", type=int, nargs="+", default=[784, 300, 200, 10])
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, help="torch threads; default all")
    parser.add_argument("--json", action="store_true", help="print one line")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time: for busy machines, one thread"
    )
    args = parser.parse_args()
    global CLOCK
    CLOCK = time.process_time if args.cpu_time else time.perf_counter
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    module = make_mlp(args.sizes, dtype)
    x = torch.randn(args.n + args.m, args.sizes[0], dtype=dtype)
    y = torch.randint(args.sizes[-1], (args.n + args.m,))
    train, test = (x[: args.n], y[: args.n]), (x[args.n :], y[args.n :])

    def ours(accumulate: torch.dtype) -> Tensor:
        task = Task(module, CrossEntropy())
        engine, cotangent = GradientEngine(task), loss_cotangent(task)
        sets = [make_examples(task, *data) for data in (train, test)]
        return Gradients(engine, sets[0], cotangent).dot(
            Gradients(engine, sets[1], cotangent), dtype=accumulate
        )

    ours(dtype)  # libraries load
    seconds, found = timed(lambda: ours(dtype), 10)
    seconds_64, found_64 = timed(lambda: ours(torch.float64), 10)
    by_chunk = {c: timed(lambda c=c: reference_dot(module, train, test, c)) for c in args.chunks}
    chunk, (reference_seconds, expected) = min(by_chunk.items(), key=lambda kv: kv[1][0])
    report = {
        "n": args.n,
        "m": args.m,
        "n_parameters": sum(p.numel() for p in module.parameters()),
        "dtype": args.dtype,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "seconds_float64_sums": seconds_64,
        "reference_seconds": {c: t for c, (t, _) in by_chunk.items()},
        "best_chunk": chunk,
        "ratio": reference_seconds / seconds,
        "ratio_float64_sums": reference_seconds / seconds_64,
        "relative_difference": float((found - expected).norm() / expected.norm()),
        "relative_difference_float64_sums": float((found_64 - expected).norm() / expected.norm()),
    }
    print(json.dumps(report, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
