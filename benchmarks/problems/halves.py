"""Problems that are retrained on halves of their rows, to judge the choice of a damping."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.problems import data, nets
from benchmarks.problems.nets import ADAMW, SGD
from benchmarks.problems.registry import Spec, in_order, problem


def shuffled_digits(rng, n: int):
    X, y = data.digits()
    order = rng.permutation(len(X))
    return X[order], y[order]


def diabetes(rng, n: int):
    X, y = load_diabetes(return_X_y=True)
    values = StandardScaler().fit_transform(np.column_stack([X, y]))
    values = values[rng.permutation(len(values))]
    return values[:, :-1], values[:, -1:]


def logistic(C: float):
    return lambda X, y: LogisticRegression(C=C, max_iter=2000)


def add(name, read, n, hidden, n_outputs, recipe, dims, classifies=True, **more):
    """An MLP; ``dims`` are projections of its gradients."""
    model = nets.mlp_of(hidden, n_outputs, recipe, classifies)
    if hidden == "cnn":
        model = partial(lambda r, X, y: nets.skorch_net(nets.CNN, r), recipe)
    if isinstance(hidden, float):
        model, recipe = logistic(hidden), {}
    more = {"dims": dims, "exact_ggn": True, "half": "fit", **more}
    problem(name, Spec(in_order(read, classifies), model, n, 100, recipe, classifies, more))


def sgd(lr, epochs, decay=None, **options):
    more = {} if decay is None else {"optimizer__weight_decay": decay}
    return {**SGD, "lr": lr, "max_epochs": epochs, **more, **options}


def adamw(lr, epochs):
    return {**ADAMW, "lr": lr, "max_epochs": epochs}


ADAM = {
    "optimizer": torch.optim.Adam,
    "lr": 3e-3,
    "max_epochs": 40,
    "optimizer__weight_decay": 1e-2,
}
DIGITS = shuffled_digits
FULL = {"exact_ggn": False}
LARGE = {"batch_size": 256}
ONE = {"n_seeds": 1}

# the half that judges was fixed before anything was measured with it
add("digits-sgd-decay", DIGITS, 1000, (32,), 10, sgd(0.05, 60, 5e-3), (None, 256))
add("digits-adamw", DIGITS, 1000, (32,), 10, adamw(3e-3, 15), (None, 256))
add("digits-softmax", DIGITS, 600, 1.0, 10, {}, (None, 128))
add("acs-20k", data.acs_dummies, 20_000, (128, 128), 2, sgd(0.05, 10, 1e-4, **LARGE), (256, 1024),
    n_subsets=24, **ONE)  # fmt: skip
add("concrete-sgd", data.concrete, 700, (32,), 1, sgd(0.01, 100, 1e-3), (None, 128),
    classifies=False, half="test")  # fmt: skip
add("mnist-sgd", data.small_mnist, 800, (48,), 10, sgd(0.03, 30, 1e-3), (None, 512), **FULL)
add("digits-sgd", DIGITS, 1000, (32,), 10, sgd(0.05, 15), (None, 256), half="test")
add("mnist-adamw", data.small_mnist, 800, (48,), 10, adamw(2e-3, 20), (None, 512), half="test",
    **FULL)  # fmt: skip
add("acs-logistic", data.acs_dummies, 1000, 0.1, 2, {}, (None, 256), half="test", n_repeats=1)
add("acs-2k-sgd", data.acs_dummies, 2000, (64, 64), 2, sgd(0.05, 20, 1e-4, batch_size=128),
    (None, 512), half="test", n_subsets=50, **FULL, **ONE)  # fmt: skip
add("diabetes-adam", diabetes, 280, (32,), 1, ADAM, (None, 128), classifies=False)
add("cifar2-cnn", data.cifar2_planes, 1000, "cnn", 2, sgd(0.01, 20, 1e-3), (None, 512),
    half="test", n_subsets=60, **ONE)  # fmt: skip
