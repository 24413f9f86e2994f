"""Problems with right labels, most rows for the test; and label noise."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.problems import data, nets
from benchmarks.problems.registry import Spec, most_for_test, problem

NOISE = ("uniform", "class", "feature", "boundary")


def scaled(load):
    def read():
        X, y = load(return_X_y=True)
        return StandardScaler().fit_transform(X), y

    return read


def above_median():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X), y > np.median(y)


def linear(X, y):
    return LogisticRegression(max_iter=2000)


def net(epochs: int, lr: float, batch_size: int):
    """One hidden layer of 64, SGD with momentum."""

    def model(X, y):
        n_classes = int(y.max()) + 1
        recipe = {**nets.SGD, "lr": lr, "max_epochs": epochs, "batch_size": batch_size}
        return nets.mlp_of((64,), n_classes, recipe, classes=list(range(n_classes)))(X, y)

    return model


def add(name: str, read, model) -> None:
    problem(f"labels/{name}", Spec(most_for_test(read), model, 10_000, 5000))


# what may be looked at while a default is chosen
add("digits", data.digits, net(20, 0.05, 64))
add("digits-long", data.digits, net(60, 0.05, 64))
add("digits-linear", data.digits, linear)
add("cancer", scaled(load_breast_cancer), net(40, 0.02, 64))
add("cancer-linear", scaled(load_breast_cancer), linear)
add("wine-linear", scaled(load_wine), linear)
add("diabetes-linear", above_median, linear)
add("sst2-linear", data.sst2_100, linear)
add("cifar2", data.cifar2_8, net(20, 0.01, 64))
# and what only afterwards
add("mnist", data.mnist, net(10, 0.05, 128))
add("acs", data.acs_frequent, net(10, 0.02, 128))
add("acs-linear", data.acs_frequent, linear)


def flip_labels(X, y, rate: float, kind: str, seed: int) -> np.ndarray:
    """Labels of which a share is wrong.

    "uniform": every row is as likely, every wrong label too.  "class": the probability rises with
    the class, from near 0 to near twice the rate, and the wrong label is the class that follows.
    "feature": the probability rises
    linearly from 0 to twice the rate with the row's rank along a random direction, and the wrong
    label is the one that a random linear map of the features favors.  "boundary": it falls
    linearly from twice the rate to 0 with the rank of the margin of a logistic regression
    cross-validated on the right labels, and the wrong label is the class that this regression
    finds most likely after the right one.
    """
    rng = np.random.default_rng([seed, 2])
    n, n_classes = len(y), int(y.max()) + 1
    rows = np.arange(n)
    probability = np.full(n, rate)
    favor = rng.random((n, n_classes))
    if kind == "class":
        probability = 2 * rate * (y + 0.5) / n_classes
        favor = np.eye(n_classes)[(y + 1) % n_classes]
    elif kind == "feature":
        standard = StandardScaler().fit_transform(X)
        probability = 2 * rate * _ranks(standard @ rng.normal(size=X.shape[1]))
        favor = standard @ rng.normal(size=(X.shape[1], n_classes))
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
