"""Data, models and amounts of further training of bench_agreement.py.

Architectures, learning rates and splits of the tabular sets follow the released notebooks of
arXiv 2412.03906 (github.com/IBM/fimoda); sizes and numbers of seeds are ours.
"""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from influencekit.datasets import fetch_acs_income, fetch_uci_concrete

__all__ = ["SETTINGS", "Setting", "fitted"]


@dataclass(frozen=True)
class Setting:
    """One data set with its model and its further training.

    Attributes
    ----------
    load : callable
        ``load() -> X_train, X_test, y_train, y_test``.
    module : callable
        ``module(X) -> nn.Module``, untrained.
    training : dict
        Of the skorch net that makes the fitted model.
    rates : dict
        Learning rate of the further training for "sgd" and "adam".
    horizons : tuple of int
        Epochs of further training.
    n_left_out, n_test, n_repeats : int
    curvature_options : dict
        Of InfluenceFunction, for models whose exact curvature is too large.
    """

    load: object
    module: object
    training: dict
    rates: dict
    horizons: tuple
    n_left_out: int = 100
    n_test: int = 100
    n_repeats: int = 5
    curvature_options: tuple = ()
    regression: bool = False


def concrete():
    """927 / 103 rows, features and target standardized by the training rows."""
    X, y = fetch_uci_concrete(return_X_y=True)
    split = train_test_split(X, y[:, None], test_size=0.1, random_state=0)
    scaled = []
    for train, test in (split[:2], split[2:]):
        scaler = StandardScaler().fit(train)
        scaled += [scaler.transform(a).astype(np.float32) for a in (train, test)]
    return scaled


def acs(state: str, n_rows: int | None = None):
    """ACSIncome of a state; categories as dummies, age and hours standardized."""
    data = fetch_acs_income(state)
    X, y = data.data, data.target.to_numpy().astype(np.int64)
    if n_rows is not None:
        rows = np.random.RandomState(0).permutation(len(y))[:n_rows]
        X, y = X.iloc[rows], y[rows]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
    numbers = [name for name in X.columns if name not in data.categorical_features]
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(
        X[data.categorical_features]
    )
    scaler = StandardScaler().fit(X_train[numbers])

    def encode(part):
        dummies = encoder.transform(part[data.categorical_features])
        return np.hstack([scaler.transform(part[numbers]), dummies]).astype(np.float32)

    return encode(X_train), encode(X_test), y_train, y_test


def cifar2():
    """2,000 cats and dogs, 500 to test."""
    with np.load(_data("cifar2", "cifar2_cat_dog.npz"), allow_pickle=False) as arrays:
        arrays = {name: arrays[name] for name in ("X_train", "y_train", "X_test", "y_test")}
    rows = np.random.RandomState(0).permutation(len(arrays["y_train"]))[:2000]

    def pixels(images):
        return (images.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)

    return (
        pixels(arrays["X_train"][rows]),
        pixels(arrays["X_test"][:500]),
        arrays["y_train"][rows].astype(np.int64),
        arrays["y_test"][:500].astype(np.int64),
    )


def sst2(n_words: int = 3000, length: int = 24):
    """5,000 sentences as word numbers; 0 is padding, 1 any rare word."""
    (train, y_train), (test, y_test) = (_sentences(f"{name}.tsv.gz") for name in ("train", "dev"))
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
    with gzip.open(_data("sst2", name), "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file][1:]
    labels = np.array([int(line[1]) for line in lines])
    return [re.findall(r"[a-z']+", line[0].lower()) or ["-"] for line in lines], labels


def _data(folder: str, name: str) -> Path:
    home = os.environ.get("INFLUENCEKIT_DATA", "")
    path = Path(home) / folder / name
    if not home or not path.is_file():
        raise OSError(f"INFLUENCEKIT_DATA names no folder that holds {folder}/{name}")
    return path


def mlp(n_outputs: int):
    """Two hidden layers of 128, ReLU."""

    def build(X):
        d = X.shape[1]
        layers = [nn.Linear(d, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(128, n_outputs))

    return build


def cnn(X):
    """Three small convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 2),
    )


class TextNet(nn.Module):
    """Mean of word vectors, one hidden layer."""

    def __init__(self, n_words: int = 3000, width: int = 16):
        super().__init__()
        self.words = nn.Embedding(n_words, width, padding_idx=0)
        self.hidden = nn.Linear(width, 32)
        self.out = nn.Linear(32, 2)

    def forward(self, X):
        used = (X > 0).unsqueeze(-1)
        mean = (self.words(X) * used).sum(1) / used.sum(1).clamp_min(1)
        return self.out(torch.relu(self.hidden(mean)))


def sgd(lr: float, max_epochs: int, **more) -> dict:
    """Training of the fitted model."""
    return {"optimizer": torch.optim.SGD, "lr": lr, "max_epochs": max_epochs, **more}


SETTINGS = {
    "concrete": Setting(
        concrete,
        mlp(1),
        sgd(0.3, 1000),
        {"sgd": 3e-2, "adam": 1e-4},
        (1, 5, 20),
        n_repeats=20,
        regression=True,
    ),
    "acs-ma": Setting(
        lambda: acs("MA"),
        mlp(2),
        sgd(1e-2, 100),
        {"sgd": 1e-4, "adam": 1e-6},
        (1, 2, 5),
        n_left_out=50,
        n_repeats=4,
        curvature_options=(("projection_dim", 2048),),
    ),
    "acs-ca": Setting(
        lambda: acs("CA", 30_000),
        mlp(2),
        sgd(1e-2, 50),
        {"sgd": 1e-4, "adam": 1e-6},
        (1, 3),
        n_left_out=30,
        n_repeats=2,
        curvature_options=(("projection_dim", 2048),),
    ),
    "cifar2": Setting(
        cifar2,
        cnn,
        sgd(0.05, 40, optimizer__momentum=0.9),
        {"sgd": 1e-3, "adam": 1e-5},
        (1, 3),
        n_left_out=40,
        n_repeats=4,
    ),
    "sst2": Setting(
        sst2,
        lambda X: TextNet(),
        {"optimizer": torch.optim.Adam, "lr": 1e-3, "max_epochs": 10},
        {"sgd": 1e-2, "adam": 1e-5},
        (1, 3, 10),
        n_left_out=50,
        n_repeats=4,
        curvature_options=(("projection_dim", 2048),),
    ),
}


def fitted(setting: Setting):
    """Fitted skorch net and its data, as published: torch seed 0, batches of 128."""
    X_train, X_test, y_train, y_test = setting.load()
    torch.manual_seed(0)
    kind = NeuralNetRegressor if setting.regression else NeuralNetClassifier
    loss = nn.MSELoss if setting.regression else nn.CrossEntropyLoss
    net = kind(
        setting.module(X_train),
        criterion=loss,
        batch_size=128,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **setting.training,
    ).fit(X_train, y_train)
    rows = slice(0, setting.n_test)
    return net, X_train, y_train, X_test[rows], y_test[rows]
