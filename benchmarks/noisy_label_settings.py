"""Data, models and label noise of bench_noisy_labels.py and bench_pruning.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.datasets import fetch_acs_income

#: What may be looked at while a default is chosen, and what only afterwards.
DEVELOPMENT = (
    "digits",
    "digits-long",
    "digits-linear",
    "cancer",
    "cancer-linear",
    "wine-linear",
    "diabetes-linear",
    "sst2-linear",
    "cifar2",
)
HELD_OUT = ("mnist", "acs", "acs-linear")
NOISE = ("uniform", "feature", "boundary")


@dataclass
class Setting:
    """Training and test rows with an unfitted model.

    Parameters
    ----------
    name : str
    model : estimator
    X, y, X_test, y_test : ndarray
        Labels are right here; noise is put in by :func:`flip_labels`.
    """

    name: str
    model: Any
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


class MLP(nn.Module):
    """One hidden layer."""

    def __init__(self, n_features: int, n_classes: int, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_classes)
        )

    def forward(self, X):
        return self.layers(X)


def net(n_features: int, n_classes: int, epochs: int, lr: float, batch_size: int):
    """SGD with momentum."""
    return NeuralNetClassifier(
        MLP,
        module__n_features=n_features,
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        lr=lr,
        optimizer__momentum=0.9,
        batch_size=batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        classes=list(range(n_classes)),
        verbose=0,
    )


def make_setting(name: str, seed: int, n_train: int, data_home: Path | None) -> Setting:
    """Rows drawn anew for each seed, and the model of the setting.

    Parameters
    ----------
    name : str
        One of DEVELOPMENT or HELD_OUT.
    seed : int
    n_train : int
        Most training rows; small data sets keep three quarters.
    data_home : path or None
        Holds mnist/mnist.npz and acs_income_2018.
    """
    data = name.partition("-")[0]
    X, y = _read(data, data_home)
    order = np.random.default_rng([seed, 1]).permutation(len(X))
    n_train = min(n_train, 3 * len(X) // 4)
    train, test = order[:n_train], order[n_train : n_train + 5000]
    model = _model(name, X.shape[1], int(y.max()) + 1)
    return Setting(name, model, X[train], y[train], X[test], y[test])


def _model(name: str, n_features: int, n_classes: int):
    if name.endswith("-linear"):
        return LogisticRegression(max_iter=2000)
    epochs, lr, batch_size = {
        "digits": (20, 0.05, 64),
        "digits-long": (60, 0.05, 64),
        "cancer": (40, 0.02, 64),
        "cifar2": (20, 0.01, 64),
        "mnist": (10, 0.05, 128),
        "acs": (10, 0.02, 128),
    }[name]
    return net(n_features, n_classes, epochs, lr, batch_size)


def _read(name: str, data_home: Path | None) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        X = X / 16
    elif name in ("cancer", "wine"):
        X, y = (load_breast_cancer if name == "cancer" else load_wine)(return_X_y=True)
        X = StandardScaler().fit_transform(X)
    elif name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
        X, y = StandardScaler().fit_transform(X), y > np.median(y)
    else:
        X, y = {"mnist": _mnist, "cifar2": _cifar2, "sst2": _sst2, "acs": _acs}[name](data_home)
    return np.asarray(X, dtype=np.float32), np.asarray(y, dtype=np.int64)


def _file(data_home: Path | None, name: str) -> Path:
    path = None if data_home is None else Path(data_home) / name
    if path is None or not path.exists():
        raise FileNotFoundError(f"{name} was not found under {data_home}")
    return path


def _mnist(data_home: Path | None):
    with np.load(_file(data_home, "mnist/mnist.npz"), allow_pickle=False) as file:
        return file["X_train"].reshape(-1, 784) / np.float32(255), file["y_train"]


def _cifar2(data_home: Path | None):
    """Cats and dogs at 8 x 8 pixels."""
    with np.load(_file(data_home, "cifar2/cifar2_cat_dog.npz"), allow_pickle=False) as file:
        images, y = file["X_train"], file["y_train"]
    small = images.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4), dtype=np.float32)
    return small.reshape(-1, 192) / 127.5 - 1, y


def _sst2(data_home: Path | None):
    """Sentences as 100 components of their tf-idf."""
    frame = pd.read_csv(_file(data_home, "sst2/train.tsv.gz"), sep="\t", quoting=3).dropna()
    frame = frame.sample(8000, random_state=0)
    table = TfidfVectorizer(min_df=5, sublinear_tf=True).fit_transform(frame["sentence"])
    parts = TruncatedSVD(100, random_state=0).fit_transform(table)
    return StandardScaler().fit_transform(parts), frame["label"].to_numpy()


def _acs(data_home: Path | None):
    """California's ACSIncome: two numbers scaled, eight codes as dummies if frequent."""
    frame, y = fetch_acs_income(
        "CA", data_home=data_home, return_X_y=True, download_if_missing=False
    )
    rows = np.random.default_rng(0).choice(len(frame), min(30_000, len(frame)), replace=False)
    frame, y = frame.iloc[rows], y.iloc[rows]
    numbers = ["AGEP", "WKHP"]
    codes = [name for name in frame.columns if name not in numbers]
    dummies = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=50, sparse_output=False
    )
    columns = make_column_transformer((StandardScaler(), numbers), (dummies, codes))
    return columns.fit_transform(frame), y


def flip_labels(X, y, rate: float, kind: str, seed: int) -> np.ndarray:
    """Labels of which a share is wrong.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
    y : ndarray of int of shape (n,)
    rate : float
        Expected share of wrong labels.
    kind : {"uniform", "feature", "boundary"}
        "uniform": every row is as likely, every wrong label too.  "feature": the probability
        rises linearly from 0 to twice the rate with the row's rank along a random direction,
        and the wrong label is the one that a random linear map of the features favors.
        "boundary": it falls linearly from twice the rate to 0 with the rank of the margin of a
        logistic regression cross-validated on the right labels, and the wrong label is the
        class that this regression finds most likely after the right one.
    seed : int

    Returns
    -------
    ndarray of int of shape (n,)
    """
    rng = np.random.default_rng([seed, 2])
    n, n_classes = len(y), int(y.max()) + 1
    rows = np.arange(n)
    probability = np.full(n, rate)
    favor = rng.random((n, n_classes))
    if kind == "feature":
        scaled = StandardScaler().fit_transform(X)
        probability = 2 * rate * _ranks(scaled @ rng.normal(size=X.shape[1]))
        favor = scaled @ rng.normal(size=(X.shape[1], n_classes))
    elif kind == "boundary":
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        favor = cross_val_predict(model, X, y, cv=3, method="predict_proba")
        others = favor.copy()
        others[rows, y] = -np.inf
        probability = 2 * rate * _ranks(others.max(axis=1) - favor[rows, y])
    wrong = favor.copy()
    wrong[rows, y] = -np.inf
    flipped = rng.random(n) < probability
    return np.where(flipped, wrong.argmax(axis=1), y)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1."""
    return np.argsort(np.argsort(values)) / (len(values) - 1)
