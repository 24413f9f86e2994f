"""Data, nets and grids of bench_sensitivity.py and bench_removal.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, TracIn
from influencekit.curvature import CURVATURES
from influencekit.training import KeepCheckpoints

DAMPINGS = ["auto", *np.geomspace(1e-6, 1e1, 15)]
COARSE = ["auto", *np.geomspace(1e-4, 1e1, 6)]
EPOCHS = [1, 2, 4, 8, 15]
N_MODELS = [1, 2, 3, 5]


@dataclass
class Setting:
    """A net's configuration with data to train and to ask.

    Parameters
    ----------
    name : str
    net : NeuralNetClassifier
        Unfitted.
    X, y, X_query, y_query : ndarray
    """

    name: str
    net: Any
    X: np.ndarray
    y: np.ndarray
    X_query: np.ndarray
    y_query: np.ndarray

    @property
    def data(self) -> tuple:
        """Training data, then queries."""
        return self.X, self.y, self.X_query, self.y_query

    def fit(self, n_models: int, seed: int) -> list:
        """Nets of several seeds on all the training data."""
        nets = []
        for i in range(n_models):
            torch.manual_seed(1000 * seed + i)
            nets.append(clone(self.net).fit(self.X, self.y))
        return nets


class MLP(nn.Module):
    """One hidden layer."""

    def __init__(self, n_features: int, width: int = 64, n_classes: int = 10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_classes)
        )

    def forward(self, X):
        return self.layers(X)


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(4, n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(4, n_out)
        self.short = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, X):
        h = torch.relu(self.norm(self.first(X)))
        return torch.relu(self.norm2(self.second(h)) + self.short(X))


class ResNet(nn.Module):
    """Three blocks."""

    def __init__(self, width: int = 8, n_classes: int = 2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False),
            Block(width, width, 1),
            Block(width, 2 * width, 2),
            Block(2 * width, 4 * width, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, n_classes),
        )

    def forward(self, X):
        return self.layers(X)


def sgd_net(module, epochs: int, **options) -> NeuralNetClassifier:
    """SGD with momentum and weight decay."""
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 5e-3,
        "lr": 0.05,
        "batch_size": 64,
        "max_epochs": epochs,
        "iterator_train__shuffle": True,
        "train_split": None,
        "callbacks": [("keep", KeepCheckpoints(EPOCHS))],
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **settings | options)


def _draw(X, y, X_test, y_test, n_train: int, n_query: int, seed: int):
    rng = np.random.RandomState(seed)
    train = rng.choice(len(X), n_train, replace=False)
    test = rng.choice(len(X_test), n_query, replace=False)
    return X[train], y[train], X_test[test], y_test[test]


def mnist(data_home: Path | None, n_train: int, n_query: int, epochs: int, seed: int) -> Setting:
    """MNIST with an MLP 784-64-10."""
    with np.load(_file(data_home, "mnist/mnist.npz"), allow_pickle=False) as file:
        arrays = {k: file[k] for k in ("X_train", "y_train", "X_test", "y_test")}
    X, X_test = (
        (arrays[k] / 255).astype(np.float32).reshape(-1, 784) for k in ("X_train", "X_test")
    )
    y, y_test = (arrays[k].astype(np.int64) for k in ("y_train", "y_test"))
    net = sgd_net(MLP, epochs, module__n_features=784)
    return Setting("mnist", net, *_draw(X, y, X_test, y_test, n_train, n_query, seed))


def digits(n_train: int, n_query: int, epochs: int, seed: int) -> Setting:
    """Digits of scikit-learn with an MLP 64-32-10."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    order = np.random.RandomState(seed).permutation(len(X))
    n_train = min(n_train, len(X) - n_query)
    train, test = order[:n_train], order[n_train : n_train + n_query]
    net = sgd_net(MLP, epochs, module__n_features=64, module__width=32)
    return Setting("digits", net, X[train], y[train], X[test], y[test])


def cifar2(data_home: Path | None, n_train: int, n_query: int, epochs: int, seed: int) -> Setting:
    """CIFAR-10's cats and dogs at 16 x 16 pixels with a small residual net."""
    with np.load(_file(data_home, "cifar2/cifar2_cat_dog.npz"), allow_pickle=False) as file:
        arrays = {k: file[k] for k in ("X_train", "y_train", "X_test", "y_test")}
    X, X_test = (_shrink(arrays[k]) for k in ("X_train", "X_test"))
    y, y_test = (arrays[k].astype(np.int64) for k in ("y_train", "y_test"))
    net = sgd_net(ResNet, epochs, optimizer__weight_decay=1e-3)
    return Setting("cifar2", net, *_draw(X, y, X_test, y_test, n_train, n_query, seed))


def _shrink(images: np.ndarray) -> np.ndarray:
    """Bytes (n, 32, 32, 3) to floats (n, 3, 16, 16), means of squares of four pixels."""
    small = images.reshape(-1, 16, 2, 16, 2, 3).mean(axis=(2, 4), dtype=np.float32)
    return np.ascontiguousarray((small / 127.5 - 1).transpose(0, 3, 1, 2)).astype(np.float32)


def _file(data_home: Path | None, name: str) -> Path:
    path = None if data_home is None else Path(data_home) / name
    if path is None or not path.exists():
        raise SystemExit(
            f"{name} was not found under --data-home or INFLUENCEKIT_DATA; got {data_home}."
        )
    return path


def net_grids(setting: str, epochs: int, n_models: int) -> dict:
    """Attributors with their grids, as far as their curvatures are registered."""
    dims = [64, 256, 1024] if setting == "cifar2" else [64, 256, 1024, 2048]
    ages = {"checkpoint": [*(e for e in EPOCHS if e < epochs), "final"], "n_models": [1]}
    sizes = {"n_models": [n for n in N_MODELS if n <= n_models]}
    dense = {"damping": DAMPINGS, "n_models": [1]}
    spectral = [
        {"projection_dim": dims, **dense},
        {"damping": COARSE, "projection_dim": dims[2:3], **ages},
        {"damping": COARSE, "projection_dim": dims[2:3], **sizes},
    ]
    labels = [label for label in ages["checkpoint"] if label != "final"]
    last = {"checkpoint": [(*labels[i:], "final") for i in range(len(labels) + 1)], "n_models": [1]}
    grids = {
        "GradDot": (GradDot(), [ages, sizes]),
        "GradCos": (GradCos(), [ages, sizes]),
        "IF fisher": (InfluenceFunction("fisher"), spectral),
        "IF ggn": (InfluenceFunction("ggn"), spectral),
        "TRAK": (TRAK(), spectral),
        "TracIn": (TracIn(), last),
    }
    for name in ("ekfac", "kfac", "datainf", "arnoldi", "nystroem"):
        if name in CURVATURES:
            grids[f"IF {name}"] = (InfluenceFunction(name), [dense, {"damping": COARSE, **ages}])
    if "cg" in CURVATURES:
        few = {"damping": [1e-2, 1e-1], "n_models": [1]}
        grids["IF cg"] = (InfluenceFunction("cg"), few)
    if "lissa" in CURVATURES and {"scale", "depth"} <= set(CURVATURES["lissa"]().get_params()):
        lissa = InfluenceFunction(CURVATURES["lissa"]())
        steps = {
            "curvature__scale": [1.0, 10.0, 100.0, 1000.0],
            "curvature__depth": [10, 40, 160],
        }
        grids["IF lissa"] = (lissa, {**steps, "damping": [1e-2], "n_models": [1]})
    return grids
