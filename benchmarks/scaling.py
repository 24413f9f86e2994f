"""What one method of influencekit costs at one size: seconds, peak of memory, matrix products.

``python benchmarks/scaling.py METHOD --n 1000 --m 100 --width 64 --output FOLDER`` fits and scores
an MLP 784-WIDTH-10 and prints one line of JSON; ``python benchmarks/scaling.py peak`` prints how
fast this machine multiplies matrices.  ``benchmarks/run_all.py`` runs series of both.

Rows are MNIST's (``--data-home`` or INFLUENCEKIT_DATA) or scikit-learn's digits enlarged, drawn
again with a little noise where there are too few.  Flops are 2abc for every product of an (a, b)
with a (b, c) matrix that torch runs, counted in a second pass that is not timed; decompositions,
elementwise work and numpy's products are not in them.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from peers._measure import emit, timed
from peers._work import make_mlp, mnist_rows
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from influencekit import TRAK, GradDot, InfluenceFunction, as_task
from influencekit.metrics._lds import PreparedOutputs

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


# ---- model and rows -----------------------------------------------------------------------


def rows(n: int, m: int, data_home) -> list[torch.Tensor]:
    """X, y, X_test, y_test with as many rows as asked for."""
    X, y, X_test, y_test = mnist_rows(n, m, 0, data_home)
    return [*_at_least(X, y, n), *_at_least(X_test, y_test, m)]


def _at_least(X: np.ndarray, y: np.ndarray, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    again = rng.integers(len(X), size=max(0, n - len(X)))
    noise = 0.05 * rng.standard_normal((len(again), X.shape[1]), dtype=np.float32)
    more = np.concatenate([X, X[again] + noise]), np.concatenate([y, y[again]])
    return torch.from_numpy(more[0]), torch.from_numpy(more[1])


def trained(width: int, folder: Path, data_home) -> nn.Sequential:
    """An MLP trained on 1,000 rows, and saved."""
    path = Path(folder) / "models" / f"scaling-{width}.pt"
    model = make_mlp([N_FEATURES, width, N_CLASSES])
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    torch.manual_seed(0)
    model = make_mlp([N_FEATURES, width, N_CLASSES])
    X, y, *_ = rows(1000, 1, data_home)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    for _ in range(10):
        for batch in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(X[batch]), y[batch]).backward()
            optimizer.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model.eval()


# ---- jobs ---------------------------------------------------------------------------------


def attribution(args, model, data):
    """Fit and score."""

    def job(n: int, m: int):
        attributor = ATTRIBUTORS[args.method]()
        attributor.fit(as_task(model, loss=nn.CrossEntropyLoss()), data[0][:n], data[1][:n])
        return attributor.score(data[2][:m], data[3][:m])

    job(8, 4)  # what is loaded at first use
    return lambda: job(args.n, args.m)


def along_the_dampings(args, model, data):
    """ξ or the LDS of 100 subsets at some dampings, with or without fit and gradients."""
    X, y, X_test, y_test = data

    def path():
        influence = ATTRIBUTORS["ggn"]().fit(as_task(model, loss=nn.CrossEntropyLoss()), X, y)
        return influence.damping_path(X_test, y_test)

    rng = np.random.default_rng(0)
    masks = rng.random((SUBSETS, args.n)) < 0.5
    # ranking takes the same time whatever the outputs are
    outputs = PreparedOutputs(rng.normal(size=(SUBSETS, args.m)))
    dampings = np.geomspace(1e-6, 10, args.dampings + 2)[1:-1]

    def measures(path):
        if args.method.startswith("xi"):
            return path.xi(dampings)
        return outputs.correlations(path.subset_sums(masks).at(dampings))

    ready = path()
    measures(ready)
    if args.method.endswith("after_gradients"):
        return lambda: measures(ready)
    return lambda: measures(path())


def closed_formula(args) -> float | None:
    """Flops by hand where they are a line: a check of the counter.

    One pass forward and one back to the layers' outputs are 2 (w + w - w_1) a row, with w weights,
    w_1 of them in the first layer; a dot product of two gradients of a layer is that of its inputs
    (and a one, for the bias) and that of the gradients at its outputs; a dense projection 2 p DIM.
    """
    w1, w2 = N_FEATURES * args.width, args.width * N_CLASSES
    passes = (args.n + args.m) * (2 * (w1 + w2) + 2 * w2)
    if args.method == "graddot":
        factors = N_FEATURES + 1 + args.width + args.width + 1 + N_CLASSES
        return passes + 2 * args.n * args.m * factors
    if args.method == "trak":
        p = w1 + w2 + args.width + N_CLASSES
        kernel = 2 * DIM * DIM * (args.n + args.m) + 2 * args.n * args.m * DIM
        return passes + 2 * (args.n + args.m) * p * DIM + kernel
    return None


def counted(job) -> float:
    """Flops of torch's matrix products in a job."""
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        job()
    return float(counter.get_total_flops())


def measure(args) -> dict:
    """Best of up to five runs, for short jobs; memory of the first."""
    data = rows(args.n, args.m, args.data_home)
    model = trained(args.width, args.output, args.data_home)
    make = along_the_dampings if args.method in DAMPING_JOBS else attribution
    job = make(args, model, data)
    facts, _ = timed(job)
    seconds = [facts["seconds"]]
    while sum(seconds) < 2 and len(seconds) < 5:
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    p = sum(q.numel() for q in model.parameters())
    flops = {"flops": counted(job), "flops_formula": closed_formula(args)}
    about = {name: getattr(args, name) for name in ("n", "m", "width", "dampings", "threads")}
    return {**facts, "seconds": min(seconds), "runs": len(seconds), "p": p, **about, **flops}


def peak_rate(size: int = 4096, runs: int = 5) -> dict:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=["peak", *ATTRIBUTORS, *DAMPING_JOBS])
    parser.add_argument("--n", type=int, default=1000, help="training rows")
    parser.add_argument("--m", type=int, default=100, help="test rows")
    parser.add_argument("--width", type=int, default=64, help="of the hidden layer")
    parser.add_argument("--dampings", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-home", help="folder with mnist/mnist.npz")
    parser.add_argument("--output", type=Path, required=True, help="folder for trained models")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    emit({"status": "ok", **(peak_rate() if args.method == "peak" else measure(args))})


if __name__ == "__main__":
    main()
