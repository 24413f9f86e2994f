"""K-FAC and EK-FAC: seconds and memory of fit and score, error of low rank, LDS on digits.

    python benchmarks/bench_kronecker.py time                  # 784-64-10 and 784-512-128-10
    python benchmarks/bench_kronecker.py time --sizes 784 128 10 --train 60000 --test 1000 \
        --max-memory 4GB
    python benchmarks/bench_kronecker.py error                 # products in low rank v. exact
    python benchmarks/bench_kronecker.py lds --seeds 3         # beside "ggn", as bench_digits_lds

Times are of MNIST if ``--data`` names its folder (``mnist.npz``), of Gaussian clusters otherwise,
whose inputs have no small eigenvalues and so take longer.  Peak memory is that of the process,
so that settings run in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task, retrain_on_subsets
from influencekit.curvature import EKFAC, KFAC
from influencekit.exceptions import InfluenceKitWarning
from influencekit.metrics._lds import PreparedOutputs

SIZES = ([784, 64, 10], [784, 512, 128, 10])
CURVATURES = {
    "kfac true": KFAC("true"),
    "ekfac true": EKFAC("true"),
    "ekfac sampled": EKFAC("sampled", random_state=0),
    "ekfac empirical": EKFAC("empirical"),
}


def load(folder: Path | None, n_train: int, n_test: int, d: int):
    """Inputs and labels of training and test examples, float32."""
    if folder is not None:
        with np.load(folder / "mnist.npz") as data:
            X = np.concatenate([data["X_train"][:n_train], data["X_test"][:n_test]])
            y = np.concatenate([data["y_train"][:n_train], data["y_test"][:n_test]])
        X = X.reshape(len(X), -1).astype(np.float32) / 255
    else:
        random = np.random.RandomState(0)
        y = random.randint(10, size=n_train + n_test)
        X = (random.randn(10, d)[y] + 2 * random.randn(len(y), d)).astype(np.float32)
    X, y = torch.from_numpy(X), torch.from_numpy(y.astype(np.int64))
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:]


def trained(sizes: list[int], X, y, epochs: int = 15):
    """A perceptron trained by SGD."""
    torch.manual_seed(0)
    pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in zip(sizes, sizes[1:], strict=False)]
    net = nn.Sequential(*[module for pair in pairs for module in pair][:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs if len(X) < 20_000 else 3):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(X[rows]), y[rows]).backward()
            optimizer.step()
    return as_task(net.eval(), loss=nn.CrossEntropyLoss())


def time_one(arguments) -> None:
    """Seconds of fit, default damping and scores of one setting, as a line."""
    sizes = arguments.sizes
    X, y, Xq, yq = load(arguments.data, arguments.train, arguments.test, sizes[0])
    task = trained(sizes, X, y)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    clock = [time.perf_counter()]
    fitted = InfluenceFunction(
        CURVATURES[arguments.curvature], 1e-3, max_memory=arguments.max_memory
    ).fit(task, X, y)
    clock.append(time.perf_counter())
    fitted.set_damping("auto")
    clock.append(time.perf_counter())
    fitted.score(Xq, yq)
    clock.append(time.perf_counter())
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    steps = "  ".join(
        f"{name} {stop - start:6.2f}"
        for name, start, stop in zip(("fit", "auto", "score"), clock, clock[1:], strict=False)
    )
    print(
        f"{arguments.curvature:<16}{'-'.join(map(str, sizes)):<18}n={len(X):<6} m={len(Xq):<5}"
        f"{steps}  all {clock[-1] - clock[0]:6.2f} s   damping {fitted.damping_:.1e}   "
        f"peak {after:,.0f} MB (before: {before:,.0f})",
        flush=True,
    )


def time_all(arguments) -> None:
    """Every curvature and size in a process of its own."""
    for sizes in [arguments.sizes] if arguments.sizes else SIZES:
        for name in CURVATURES:
            command = [sys.executable, __file__, "one", "--curvature", name]
            command += ["--sizes", *map(str, sizes)]
            command += ["--train", str(arguments.train), "--test", str(arguments.test)]
            if arguments.max_memory:
                command += ["--max-memory", arguments.max_memory]
            if arguments.data:
                command += ["--data", str(arguments.data)]
            subprocess.run(command, check=True)


def errors(arguments) -> None:
    """Scores in low rank against exact ones."""
    for sizes in [arguments.sizes] if arguments.sizes else SIZES:
        X, y, Xq, yq = load(arguments.data, arguments.train, arguments.test, sizes[0])
        task = trained(sizes, X, y)
        exact = InfluenceFunction(EKFAC("true", tolerance=0)).fit(task, X, y)
        for damping in (exact.damping_ / 10, exact.damping_, exact.damping_ * 10):
            expected = exact.set_damping(damping).score(Xq, yq)
            size = np.sqrt(np.mean(expected**2))
            for tolerance in (1e-3, 1e-4, 1e-5):
                curvature = EKFAC("true", tolerance=tolerance)
                fitted = InfluenceFunction(curvature, damping).fit(task, X, y)
                start = time.perf_counter()
                found = fitted.score(Xq, yq)
                seconds = time.perf_counter() - start
                rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, expected, strict=True)]
                print(
                    f"{sizes} damping {damping:.1e} tolerance {tolerance:.0e}: "
                    f"rms error {np.sqrt(np.mean((found - expected) ** 2)) / size:.1e}, "
                    f"largest {np.abs(found - expected).max() / size:.1e} of the rms score, "
                    f"1 - worst row's correlation {1 - min(rows):.1e}, {seconds:.2f} s",
                    flush=True,
                )


def digits(arguments) -> None:
    """LDS on digits at the default damping and at the best of a grid."""
    from bench_digits_lds import RECIPES, problem

    curvatures = {"ggn": "ggn", "fisher": "fisher", **CURVATURES}
    rows = []
    for recipe in RECIPES:
        for seed in range(arguments.seeds):
            data = problem(recipe, seed)
            outputs = retrain_on_subsets(
                *data,
                n_subsets=arguments.subsets,
                n_repeats=arguments.repeats,
                random_state=seed,
                cache_dir=arguments.cache_dir,
            )
            truth = PreparedOutputs(outputs.outputs)
            for name, curvature in curvatures.items():
                fitted = InfluenceFunction(curvature, random_state=seed).fit(*data[:3])
                path = fitted.damping_path(*data[3:])
                sums = path.subset_sums(outputs.masks)
                largest = float(fitted.eigenvalues_.max())
                grid = np.geomspace(1e-8 * largest, 10 * largest, 37)
                values = [truth.score(part).mean for part in sums.at(grid)]
                best = int(np.argmax(values))
                row = {
                    "recipe": recipe,
                    "seed": seed,
                    "curvature": name,
                    "default": truth.score(sums.at(fitted.damping_)).mean,
                    "best": values[best],
                    "xi_at_best": float(np.nanmean(path.xi([grid[best]]))),
                }
                rows.append(row)
                print(
                    f"{recipe:<15}{seed:>3} {name:<16} default {row['default']:.3f}  "
                    f"best {row['best']:.3f}  xi there {row['xi_at_best']:.2f}",
                    flush=True,
                )
    print("\nmeans over recipes and seeds")
    for name in curvatures:
        own = [row for row in rows if row["curvature"] == name]
        default, best = (np.mean([row[k] for row in own]) for k in ("default", "best"))
        print(f"{name:<16} default {default:.3f}  best {best:.3f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["time", "one", "error", "lds"])
    parser.add_argument("--sizes", type=int, nargs="+", default=None)
    parser.add_argument("--train", type=int, default=5_000)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--curvature", choices=list(CURVATURES), default="ekfac true")
    parser.add_argument("--max-memory", default=None)
    parser.add_argument("--data", type=Path, default=None, help="folder of mnist.npz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None, help="write the rows of lds here")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", InfluenceKitWarning)
    runs = {"time": time_all, "one": time_one, "error": errors, "lds": digits}
    runs[chosen.what](chosen)
