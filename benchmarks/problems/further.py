"""Fitted models that are trained further, with learning rates and amounts.

Architectures, learning rates and splits of the tabular sets follow the released notebooks of
arXiv 2412.03906 (github.com/IBM/fimoda); sizes and numbers of seeds are ours.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from benchmarks.problems import data, nets
from benchmarks.problems.registry import Problem, Spec, problem
from influencekit.datasets import fetch_acs_income, fetch_uci_concrete


def scaled_tenth(X, y):
    """Nine tenths to train, features and target standardized by them."""
    split = train_test_split(X, y[:, None], test_size=0.1, random_state=0)
    scaled = []
    for train, test in (split[:2], split[2:]):
        scaler = StandardScaler().fit(train)
        scaled += [scaler.transform(a).astype(np.float32) for a in (train, test)]
    return scaled


def concrete():
    """927 and 103 rows."""
    return scaled_tenth(*fetch_uci_concrete(return_X_y=True))


def diabetes():
    """397 and 45 rows, for runs without a data folder."""
    return scaled_tenth(*load_diabetes(return_X_y=True))


def acs(state: str, n_rows: int | None = None):
    """ACSIncome of a state; categories as dummies, age and hours standardized."""
    found = fetch_acs_income(state)
    X, y = found.data, found.target.to_numpy().astype(np.int64)
    if n_rows is not None:
        rows = np.random.RandomState(0).permutation(len(y))[:n_rows]
        X, y = X.iloc[rows], y[rows]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
    numbers = [name for name in X.columns if name not in found.categorical_features]
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(
        X[found.categorical_features]
    )
    scaler = StandardScaler().fit(X_train[numbers])

    def encode(part):
        dummies = encoder.transform(part[found.categorical_features])
        return np.hstack([scaler.transform(part[numbers]), dummies]).astype(np.float32)

    return encode(X_train), encode(X_test), y_train, y_test


def cifar2():
    """2,000 cats and dogs, 500 to test."""
    (X, y), (X_test, y_test) = (data.raw(data.CIFAR2, part) for part in ("train", "test"))
    rows = np.random.RandomState(0).permutation(len(y))[:2000]

    def pixels(images):
        return (images.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)

    labels = (part.astype(np.int64) for part in (y[rows], y_test[:500]))
    return pixels(X[rows]), pixels(X_test[:500]), *labels


def sst2(n_words: int = 3000, length: int = 24):
    """5,000 sentences as word numbers; 0 is padding, 1 any rare word."""
    (train, y_train), (test, y_test) = (_sentences(f"sst2/{n}.tsv.gz") for n in ("train", "dev"))
    rows = np.random.RandomState(0).permutation(len(train))[:5000]
    train, y_train = [train[row] for row in rows], y_train[rows]
    counts = Counter(word for words in train for word in words)
    number = {word: 2 + i for i, (word, _) in enumerate(counts.most_common(n_words - 2))}

    def encode(sentences):
        table = np.zeros((len(sentences), length), dtype=np.int64)
        for row, words in zip(table, sentences, strict=True):
            found = [number.get(word, 1) for word in words[:length]]
            row[: len(found)] = found
        return table

    return encode(train), encode(test), y_train, y_test


def _sentences(name: str):
    with gzip.open(data.file(name), "rt", encoding="utf-8") as opened:
        lines = [line.rstrip("\n").split("\t") for line in opened][1:]
    labels = np.array([int(line[1]) for line in lines])
    return [re.findall(r"[a-z']+", line[0].lower()) or ["-"] for line in lines], labels


def mlp(n_outputs: int):
    """Two hidden layers of 128, ReLU."""
    return lambda X: nets.stack_of_layers((X.shape[1], 128, 128, n_outputs))


def cnn(X):
    """Three small convolutions."""
    layers: list[nn.Module] = []
    for d_in, d_out in ((3, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(d_in, d_out, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 2))


def sgd(lr: float, max_epochs: int, **more) -> dict:
    return {"optimizer": torch.optim.SGD, "lr": lr, "max_epochs": max_epochs, **more}


class Published(Spec):
    """Torch's seed 0 before the net is made, batches of 128, as published."""

    def load(self, name, seed, n_train, n_test):
        X, X_test, y, y_test = self.read()
        X, y = X[:n_train], y[:n_train]
        torch.manual_seed(0)
        net = nets.skorch_net(self.model(X), self.recipe, self.classifies, batch_size=128)
        rows = slice(0, n_test or self.n_test)
        return Further(name, net, X, y, X_test[rows], y_test[rows], self, seed)


class Further(Problem):
    """The net was initialized when its problem was read, and trains from there."""

    def fit(self, seed=None):
        return self.model.fit(self.X, self.y)


def add(name, read, module, recipe, rates, left_out=100, classifies=True, **curvature) -> None:
    """``rates``: of the further training, for "sgd" and "adam"."""
    more = {"rates": dict(zip(("sgd", "adam"), rates, strict=True)), "n_left_out": left_out}
    more["curvature"] = curvature
    spec = Published(read, module, recipe=recipe, classifies=classifies, more=more)
    problem(f"further/{name}", spec)


ADAM = {"optimizer": torch.optim.Adam, "lr": 1e-3, "max_epochs": 10}
MOMENTUM = {"optimizer__momentum": 0.9}
WIDE = {"projection_dim": 2048}
add("concrete", concrete, mlp(1), sgd(0.3, 1000), (3e-2, 1e-4), classifies=False)
add("diabetes", diabetes, mlp(1), sgd(0.1, 50), (3e-2, 1e-4), classifies=False)
add("acs-ma", lambda: acs("MA"), mlp(2), sgd(1e-2, 100), (1e-4, 1e-6), 50, **WIDE)
add("acs-ca", lambda: acs("CA", 30_000), mlp(2), sgd(1e-2, 50), (1e-4, 1e-6), 30, **WIDE)
add("cifar2", cifar2, cnn, sgd(0.05, 40, **MOMENTUM), (1e-3, 1e-5), 40)
add("sst2", sst2, lambda X: nets.TextNet(), ADAM, (1e-2, 1e-5), 50, **WIDE)
