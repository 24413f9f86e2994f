"""What AdamW-influence misses of a removal: the optimizer's answer, or the kinks of ReLU.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_finite_push.py --setting mnist

For nets that differ in their activation alone: Spearman correlation over the left-out examples
(mean over test examples) and relative error of the derivative, and of
``removal_order="finite"``, against reruns without one example each.  Then, for two kinds of
error proxy, its median over examples and
its rank correlation with the relative error of the finite scores, and both measures again for
the half of the examples with the smaller ratios of kinks.  All in float64.

Settings: mnist (784-16-16-10, 6,000 images, one epoch of batches of 64, betas .9 and .95), digits
(64-32-10, 1,000 images, three epochs of batches of 32, betas .9 and .999).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import nn
from trajectory_settings import SETTINGS, Run, Setting, _mnist

from influencekit import AdamWInfluence, as_task
from influencekit.training import record_trajectory, trajectory_leave_one_out

ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus100": lambda: nn.Softplus(beta=100, threshold=40),
}
SIZES = {"mnist": SETTINGS["mnist"], "digits": Setting(1000, 500, 200, 32, 3, (), (0.9, 0.999))}


def digits(n_train: int, n_test: int, seed: int):
    """Images and labels, training ones first."""
    X, y = load_digits(return_X_y=True)
    order = np.random.RandomState(seed).permutation(len(X))
    X, y = X[order] / 16, y[order]
    return X[:n_train], y[:n_train], X[-n_test:], y[-n_test:]


def make_run(name: str, activation: str, lr: float, seed: int, options, shift: int = 0) -> Run:
    """Train and record a run of AdamW at a constant rate, without decay.

    Shifted runs start with noise of 0.001 on every parameter, all else equal.
    """
    size, act = SIZES[name], ACTIVATIONS[activation]
    torch.manual_seed(seed)
    if name == "mnist":
        X, y, X_test, y_test = _mnist(options.data_home, size.n_train, options.n_test, seed)[2:]
        sizes = (784, 16, 16, 10)
    else:
        X, y, X_test, y_test = digits(size.n_train, options.n_test, seed)
        sizes = (64, 32, 10)
    torch.manual_seed(seed)
    layers = [
        part for i in range(1, len(sizes)) for part in (nn.Linear(*sizes[i - 1 : i + 1]), act())
    ]
    module = nn.Sequential(*layers[:-1]).double()
    noise = np.random.RandomState([seed, shift])
    with torch.no_grad():
        for p in module.parameters():
            p += (1e-3 * torch.as_tensor(noise.normal(size=p.shape))) * bool(shift)
    optimizer = torch.optim.AdamW(module.parameters(), lr, betas=size.betas, weight_decay=0.0)
    inputs, targets = torch.as_tensor(X), torch.as_tensor(y)
    rng = np.random.RandomState(seed)
    with record_trajectory(module, optimizer, len(X)) as recorder:
        for _ in range(size.epochs):
            order = torch.as_tensor(rng.permutation(len(X)))
            for rows in order.split(size.batch_size):
                recorder.rows(rows)
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(inputs[rows]), targets[rows]).backward()
                optimizer.step()
    task = as_task(module.eval(), loss=nn.CrossEntropyLoss())
    left_out = np.sort(rng.choice(len(X), options.n_left_out, replace=False))
    return Run(task, recorder.trajectory_, X, y, X_test, y_test, left_out)


def correlation(scores: np.ndarray, truth: np.ndarray) -> float:
    """Spearman over examples, mean over test examples."""
    return float(np.mean([spearmanr(a, b)[0] for a, b in zip(scores, truth, strict=True)]))


def one_run(run: Run, cache_dir: Path | None) -> dict[str, float]:
    """Quality of both kinds of scores and of the flags."""
    data = run.X, run.y, run.X_test, run.y_test
    truth = trajectory_leave_one_out(
        run.task, *data, left_out=run.left_out, trajectory=run.trajectory, cache_dir=cache_dir
    ).scores
    influence = AdamWInfluence(run.trajectory).fit(run.task, run.X, run.y)
    proxies = {
        kind: influence.taylor_error_proxy(run.X_test, run.y_test, run.left_out, kind=kind)
        for kind in ("finite", "kinks")
    }
    first = proxies["finite"].scores
    finite = first + proxies["finite"].proxy
    size = np.linalg.norm(truth, axis=0)
    error = np.linalg.norm(finite - truth, axis=0) / size
    found = {}
    for name, scores in (("derivative", first), ("finite", finite)):
        found[f"{name} spearman"] = correlation(scores, truth)
        found[f"{name} error"] = float(np.linalg.norm(scores - truth) / np.linalg.norm(truth))
    for kind, proxy in proxies.items():
        found[f"{kind} ratio"] = float(np.median(proxy.of_examples))
    kinks = proxies["kinks"].of_examples
    found["kinks rank"] = float(spearmanr(kinks, error)[0]) if kinks.any() else np.nan
    half = kinks <= np.median(kinks)
    found["finite spearman, lower half"] = correlation(finite[:, half], truth[:, half])
    found["error, lower half"] = float(np.median(error[half]))
    found["error, upper half"] = float(np.median(error[~half])) if kinks.any() else np.nan
    return found


def common_options(doc: str, n_test: int) -> argparse.ArgumentParser:
    """Options of this benchmark and of ``bench_kinks.py``."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--setting", choices=list(SIZES), default="mnist")
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-3, 1e-4, 1e-5])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--n-left-out", type=int, default=60)
    parser.add_argument("--n-test", type=int, default=n_test)
    parser.add_argument("--cache-dir", type=Path, default=None, help="reruns are kept here")
    return parser


def print_seeds(found: list[dict[str, float]]) -> None:
    """Print each measure: its mean over seeds, and each seed."""
    for name in found[0]:
        each = [one[name] for one in found]
        print(f"    {name:<28} {np.mean(each):.3f}   ({', '.join(f'{v:.3f}' for v in each)})")


def main() -> None:
    """Print a block for each net and rate."""
    parser = common_options(__doc__, n_test=30)
    parser.add_argument(
        "--activations", nargs="+", choices=list(ACTIVATIONS), default=["relu", "gelu"]
    )
    options = parser.parse_args()
    for activation in options.activations:
        for lr in options.lrs:
            runs = []
            for seed in range(options.seeds):
                run = make_run(options.setting, activation, lr, seed, options)
                runs.append(one_run(run, options.cache_dir))
            print(f"{options.setting}, {activation}, lr {lr:g}, {options.seeds} seeds", flush=True)
            print_seeds(runs)


if __name__ == "__main__":
    main()
