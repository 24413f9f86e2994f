"""Scores averaged along the run, against the final model and against retraining.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/along_the_run.py --out FILE.json [--cache-dir FOLDER]
        [--settings NAME ...] [--seeds 0 1] [--part scratch|methods|finetuned] [--masks halves]

Twelve settings (tables, digits, a CNN; SGD and AdamW), two seeds each.  Truth: 80 random halves,
three trainings each, and 60 masks with 5 % of the rows dropped, six trainings each.  Reported is
the linear datamodeling score (LDS, Spearman, mean over queries) and the noise ceiling, for the
margin (a regressor's prediction) and for the loss.

"final" is InfluenceFunction() on the final model, "average" RunAverage(), "end slopes"
RunAverage(slopes="end"), "unit" the mean of unit-length scores of InfluenceFunction() at the same
eight checkpoints, by hand.  The recipes stood
in this file before the first run.  Results are kept in FILE, a cell at a time; a second call goes
on where the first one stopped, and prints the tables.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
import warnings
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from influencekit import TRAK, GradDot, InfluenceFunction, RunAverage, retrain_on_subsets
from influencekit.datasets import fetch_acs_income, fetch_uci_concrete
from influencekit.metrics import noise_ceiling
from influencekit.models import load_checkpoints
from influencekit.training import KeepCheckpoints

N_QUERIES = 50
HALVES, DROPPED = {"n": 80, "repeats": 3}, {"n": 60, "repeats": 6, "fraction": 0.95}


class Layers(nn.Module):
    """An MLP with ReLU, or a small CNN; from given weights where there are any."""

    def __init__(self, sizes=(), cnn=False, start=None):
        super().__init__()
        self.layers = _cnn() if cnn else _mlp(sizes)
        if start is not None:
            self.load_state_dict(start)

    def forward(self, X):
        return self.layers(X)


def _mlp(sizes):
    parts = [nn.Linear(sizes[0], sizes[1])]
    for before, after in pairwise(sizes[1:]):
        parts += [nn.ReLU(), nn.Linear(before, after)]
    return nn.Sequential(*parts)


def _cnn():
    """1,906 parameters, for two classes of 32 x 32 color images."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 2),
    )


def _acs():
    frame, y = fetch_acs_income("CA", data_home=os.environ["INFLUENCEKIT_DATA"], return_X_y=True)
    numbers = frame[["AGEP", "SCHL", "WKHP"]].to_numpy(float)
    codes = [frame[c].astype(str).to_numpy() for c in ("COW", "MAR", "RELP", "SEX", "RAC1P")]
    dummies = [(c[:, None] == np.unique(c)).astype(float) for c in codes]
    return np.column_stack([numbers, *dummies]), np.asarray(y).astype(int)


def _concrete():
    return fetch_uci_concrete(data_home=os.environ["INFLUENCEKIT_DATA"], return_X_y=True)


def _cifar2():
    path = Path(os.environ["INFLUENCEKIT_DATA"]) / "cifar2" / "cifar2_cat_dog.npz"
    with np.load(path, allow_pickle=False) as arrays:
        X, y = arrays["X_train"], arrays["y_train"]
    X = X.transpose(0, 3, 1, 2).astype(np.float32) / 255
    return (X - X.mean((0, 2, 3), keepdims=True)) / X.std((0, 2, 3), keepdims=True), y


@dataclass(frozen=True)
class Setting:
    """Data, hidden units, optimizer and recipe of one net."""

    load: object
    n_train: int
    hidden: int
    optimizer: str
    lr: float
    batch_size: int
    epochs: int
    classifies: bool = True
    pretrained: bool = False


def _table(load):
    return partial(load, return_X_y=True)


WINE, CANCER, DIGITS = _table(load_wine), _table(load_breast_cancer), _table(load_digits)
DIABETES = _table(load_diabetes)
SETTINGS = {
    "wine, SGD": Setting(WINE, 107, 16, "sgd", 0.1, 16, 30),
    "wine, AdamW": Setting(WINE, 107, 16, "adamw", 0.01, 16, 20),
    "breast cancer, SGD": Setting(CANCER, 341, 16, "sgd", 0.1, 32, 20),
    "breast cancer, AdamW": Setting(CANCER, 341, 16, "adamw", 0.01, 32, 15),
    "diabetes, SGD": Setting(DIABETES, 265, 16, "sgd", 0.02, 32, 40, False),
    "diabetes, AdamW": Setting(DIABETES, 265, 16, "adamw", 0.01, 32, 30, False),
    "Concrete, SGD": Setting(_concrete, 618, 32, "momentum", 0.01, 32, 30, False),
    "Concrete, AdamW": Setting(_concrete, 618, 32, "adamw", 0.01, 32, 30, False),
    "digits, SGD": Setting(DIGITS, 800, 24, "momentum", 0.05, 64, 20),
    "digits, AdamW": Setting(DIGITS, 800, 24, "adamw", 0.005, 64, 20),
    "ACSIncome, SGD": Setting(_acs, 1000, 16, "momentum", 0.02, 32, 20),
    "CIFAR-2, AdamW": Setting(_cifar2, 600, 0, "adamw", 0.003, 32, 15),
}
#: Pretrained on as many other rows of the same data, then trained on.
FINETUNED = {
    "breast cancer, fine-tuned": Setting(CANCER, 200, 16, "adamw", 0.003, 32, 8, True, True),
    "digits, fine-tuned, AdamW": Setting(DIGITS, 600, 24, "adamw", 0.002, 64, 8, True, True),
    "digits, fine-tuned, SGD": Setting(DIGITS, 600, 24, "momentum", 0.02, 64, 8, True, True),
}
METHODS = {
    "ekfac": lambda: InfluenceFunction("ekfac"),
    "kfac": lambda: InfluenceFunction("kfac"),
    "logra": lambda: InfluenceFunction("logra", random_state=0),
    "TRAK": lambda: TRAK(projection_dim=512, random_state=0),
    "GradDot": GradDot,
}


def _split(setting: Setting, seed: int):
    """Training rows, queries and rows to pretrain on, standardized by the training rows."""
    X, y = setting.load()
    X = np.asarray(X, dtype=np.float32)
    if not setting.classifies:
        y = ((y - np.mean(y)) / np.std(y)).astype(np.float32)[:, None]
    else:
        y = np.asarray(y).astype(np.int64)
    labels = y if setting.classifies else None
    X, X_rest, y, y_rest = train_test_split(
        X, y, train_size=setting.n_train, stratify=labels, random_state=seed
    )
    if X.ndim == 2:
        scaler = StandardScaler().fit(X)
        X, X_rest = (scaler.transform(part).astype(np.float32) for part in (X, X_rest))
    others = X_rest[N_QUERIES:][: setting.n_train], y_rest[N_QUERIES:][: setting.n_train]
    return (X, y), (X_rest[:N_QUERIES], y_rest[:N_QUERIES]), others


def _net(setting: Setting, n_in: int, n_out: int, start=None):
    kinds = {
        "sgd": {"optimizer": torch.optim.SGD},
        "momentum": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
        "adamw": {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 1e-3},
    }
    sizes = (n_in, setting.hidden, n_out)
    kind, criterion = NeuralNetRegressor, nn.MSELoss
    if setting.classifies:
        kind, criterion = NeuralNetClassifier, nn.CrossEntropyLoss
    return kind(
        Layers,
        module__sizes=sizes,
        module__cnn=setting.hidden == 0,
        module__start=start,
        criterion=criterion,
        lr=setting.lr,
        batch_size=setting.batch_size,
        max_epochs=setting.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[KeepCheckpoints(n=8)],
        **kinds[setting.optimizer],
    )


@cache
def fitted(name: str, seed: int):
    """Fitted net that kept its checkpoints, training rows and queries."""
    setting = (SETTINGS | FINETUNED)[name]
    train, queries, others = _split(setting, seed)
    n_in = int(np.prod(train[0].shape[1:]))
    n_out = int(train[1].max()) + 1 if setting.classifies else 1
    start = None
    if setting.pretrained:
        torch.manual_seed(1000 + seed)
        start = _net(setting, n_in, n_out).set_params(max_epochs=20).fit(*others)
        start = {k: v.clone() for k, v in start.module_.state_dict().items()}
    torch.manual_seed(seed)
    return _net(setting, n_in, n_out, start).fit(*train), train, queries


def truth(name: str, seed: int, kind: str, cache_dir):
    """Masks and outputs, margins or predictions, (n_masks, n_repeats, n_queries)."""
    net, train, queries = fitted(name, seed)
    plan = {"halves": HALVES, "dropped": DROPPED}[kind]
    found = retrain_on_subsets(
        net,
        *train,
        *queries,
        n_subsets=plan["n"],
        n_repeats=plan["repeats"],
        subset_fraction=plan.get("fraction", 0.5),
        output="margin" if (SETTINGS | FINETUNED)[name].classifies else "prediction",
        cache_dir=cache_dir,
        random_state=seed,
    )
    return found.masks, found.outputs


def as_loss(name: str, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Negative losses of margins or predictions: log p = -log(1 + exp(-margin))."""
    if (SETTINGS | FINETUNED)[name].classifies:
        return -np.logaddexp(0.0, -outputs)
    return -((outputs - y[:, 0]) ** 2)


def lds(scores: np.ndarray, masks: np.ndarray, outputs: np.ndarray) -> float:
    """Mean over queries of the rank correlation with the mean over repeats."""
    predicted, measured = masks @ scores.T, outputs.mean(1)
    pairs = zip(predicted.T, measured.T, strict=True)
    return float(np.nanmean([spearmanr(a, b).statistic for a, b in pairs]))


def explaining(attributor, output: str, queries) -> np.ndarray:
    """Scores of a fitted attributor for another output than it was fitted with."""
    other = copy.copy(attributor)
    other.fitted_ = [fitted.explaining(output) for fitted in attributor.fitted_]
    return other.score(*queries)


def fits(net, train, part: str) -> dict:
    """Fitted attributors by name, and the seconds of each fit."""
    ways = {"final": InfluenceFunction, "average": RunAverage}
    ways["end slopes"] = partial(RunAverage, slopes="end")
    if part == "methods":
        ways = {}
        for name, make in METHODS.items():
            ways |= {name: make, f"{name}, average": partial(RunAverage, make())}
    found, seconds = {}, {}
    for name, make in ways.items():
        began = time.perf_counter()
        found[name] = make().fit(net, *train)
        seconds[name] = round(time.perf_counter() - began, 3)
    return found, seconds


def by_hand(net, train) -> list:
    """InfluenceFunction() at each checkpoint that the net kept."""
    states = dict(net.callbacks_)["KeepCheckpoints"].checkpoints_.values()
    return [InfluenceFunction().fit(model, *train) for model in load_checkpoints(net, states)]


def unit_length(parts, output: str, queries) -> np.ndarray:
    """Mean over checkpoints of scores at length 1."""
    scores = [explaining(part, output, queries) for part in parts]
    return sum(s / np.linalg.norm(s, axis=1, keepdims=True) for s in scores) / len(scores)


def measure(name: str, seed: int, part: str, masks, cache_dir) -> dict:
    """LDS of every way, output and truth of one cell."""
    net, train, queries = fitted(name, seed)
    truths = {kind: truth(name, seed, kind, cache_dir) for kind in masks}
    value = "margin" if (SETTINGS | FINETUNED)[name].classifies else "prediction"
    attributors, seconds = fits(net, train, part)
    parts = [] if part == "methods" else by_hand(net, train)
    result: dict = {"seconds of fit": seconds}
    for explained, output in (("value", value), ("loss", "neg_loss")):
        scores = {way: explaining(one, output, queries) for way, one in attributors.items()}
        if parts:
            scores["unit"] = unit_length(parts, output, queries)
        for kind, (kept, outputs) in truths.items():
            if explained == "loss":
                outputs = as_loss(name, outputs, queries[1])
            cell = {way: lds(s, kept, outputs) for way, s in scores.items()}
            cell["ceiling"] = float(noise_ceiling(outputs).attainable_correlation)
            result[f"{explained}, {kind}"] = cell
    return result


def table(results: dict, explained: str) -> str:
    """Rows of settings, means over seeds, and the mean over settings with its standard error."""
    cells: dict[str, list] = {}
    for key, result in results.items():
        if explained in result:
            cells.setdefault(key.rsplit("/", 1)[0], []).append(result[explained])
    if not cells:
        return ""
    ways = list(next(iter(cells.values()))[0])
    rows = {n: {w: np.mean([c[w] for c in found]) for w in ways} for n, found in cells.items()}
    lines = ["| " + " | ".join([explained, *ways]) + " |", "|---" * (len(ways) + 1) + "|"]
    lines += [
        "| " + " | ".join([n, *(f"{row[w]:.3f}" for w in ways)]) + " |" for n, row in rows.items()
    ]
    means = {w: np.array([row[w] for row in rows.values()]) for w in ways}
    lines.append("| mean | " + " | ".join(f"{m.mean():.3f}" for m in means.values()) + " |")
    pairs = [("average", "final"), ("average", "unit"), ("end slopes", "final")]
    pairs += [(f"{w}, average", w) for w in ways if f"{w}, average" in ways]
    for a, b in pairs:
        if a in means and b in means:
            gain = means[a] - means[b]
            error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
            lines.append(
                f"\n{a} - {b}: {gain.mean():+.3f} ± {error:.3f} over {len(gain)} settings, "
                f"least {gain.min():+.3f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--part", default="scratch", choices=("scratch", "methods", "finetuned"))
    parser.add_argument("--settings", nargs="*")
    parser.add_argument("--masks", nargs="*", default=["halves", "dropped"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.settings or (FINETUNED if arguments.part == "finetuned" else SETTINGS)
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for seed in arguments.seeds:
        for name in names:
            key = f"{name}/{seed}"
            if key not in results:
                began = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    results[key] = measure(
                        name, seed, arguments.part, arguments.masks, arguments.cache_dir
                    )
                arguments.out.write_text(json.dumps(results, indent=1))
                print(f"{key}: {time.perf_counter() - began:.0f} s", flush=True)
    for explained in ("value, halves", "loss, halves", "value, dropped", "loss, dropped"):
        print(table(results, explained), end="\n\n")


if __name__ == "__main__":
    main()
