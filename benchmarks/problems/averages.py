"""Nets that keep checkpoints of their run: tables, digits and images, some fine-tuned."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from skorch.callbacks import LRScheduler

from benchmarks.problems import data, nets
from benchmarks.problems.halves import adamw, sgd
from benchmarks.problems.registry import Problem, Spec, problem, spec_of
from benchmarks.problems.tables import shares
from influencekit.training import KeepCheckpoints


def _concrete(return_X_y=True):
    X, y = data.concrete(np.random.RandomState(0), 0)
    return X, y[:, 0]


def _acs(return_X_y=True):
    return data.acs_few_codes()


def _cifar2(return_X_y=True):
    X, y = data.cifar2_planes(np.random.RandomState(0), 2000)
    return X.astype(np.float32), y


def _mnist(return_X_y=True):
    X, y = data.mnist()
    return X[:4000].reshape(-1, 1, 28, 28), y[:4000]


def run(name, load, n_train, hidden, recipe, classifies=True, pretrained=False):
    """An MLP of one hidden layer, or a net by its class; eight checkpoints are kept."""
    rows = shares(load, classifies, None)

    def read(seed, n_train, n_test):
        X, y, X_rest, y_rest = rows(seed, n_train, n_test)
        return X, y, X_rest[:n_test], y_rest[:n_test]

    def model(X, y):
        more = {"callbacks": [KeepCheckpoints(n=8), *recipe.get("callbacks", [])]}
        if isinstance(hidden, type):
            return nets.skorch_net(hidden, recipe, **more)
        n_out = int(y.max()) + 1 if classifies else 1
        return nets.mlp_of((hidden,), n_out, recipe, classifies, **more)(X, y)

    more = {"rows": rows, "pretrained": pretrained}
    problem(f"run/{name}", Spec(read, model, n_train, 50, recipe, classifies, more))
    return name


def plain(lr, epochs, batch_size):
    return {"optimizer": torch.optim.SGD, "lr": lr, "max_epochs": epochs, "batch_size": batch_size}


def decayed(lr, epochs, batch_size):
    return {**adamw(lr, epochs), "optimizer__weight_decay": 1e-3, "batch_size": batch_size}


def momentum(lr, epochs, batch_size):
    return sgd(lr, epochs, batch_size=batch_size)


SETTINGS = [
    run("wine, SGD", load_wine, 107, 16, plain(0.1, 30, 16)),
    run("wine, AdamW", load_wine, 107, 16, decayed(0.01, 20, 16)),
    run("breast cancer, SGD", load_breast_cancer, 341, 16, plain(0.1, 20, 32)),
    run("breast cancer, AdamW", load_breast_cancer, 341, 16, decayed(0.01, 15, 32)),
    run("diabetes, SGD", load_diabetes, 265, 16, plain(0.02, 40, 32), False),
    run("diabetes, AdamW", load_diabetes, 265, 16, decayed(0.01, 30, 32), False),
    run("Concrete, SGD", _concrete, 618, 32, momentum(0.01, 30, 32), False),
    run("Concrete, AdamW", _concrete, 618, 32, decayed(0.01, 30, 32), False),
    run("digits, SGD", load_digits, 800, 24, momentum(0.05, 20, 64)),
    run("digits, AdamW", load_digits, 800, 24, decayed(0.005, 20, 64)),
    run("ACSIncome, SGD", _acs, 1000, 16, momentum(0.02, 20, 32)),
    run("CIFAR-2, AdamW", _cifar2, 600, nets.CNN, decayed(0.003, 15, 32)),
]
TABLES = SETTINGS[:8]
#: Pretrained on as many other rows of the same data, then trained on.
FINETUNED = [
    run("breast cancer, fine-tuned", load_breast_cancer, 200, 16, decayed(0.003, 8, 32),
        pretrained=True),
    run("digits, fine-tuned, AdamW", load_digits, 600, 24, decayed(0.002, 8, 64), pretrained=True),
    run("digits, fine-tuned, SGD", load_digits, 600, 24, momentum(0.02, 8, 64), pretrained=True),
]  # fmt: skip


def scheduled(recipe, policy, **options):
    """The same with a learning rate that changes after each epoch."""
    return {**recipe, "callbacks": [LRScheduler(policy, **options)]}


#: Schedules, a run that EarlyStopping(patience=3) ended after 6 epochs, BatchNorm and 670,000
#: parameters: reported beside the others.
BESIDE = [
    run("digits, cosine", load_digits, 800, 24, scheduled(
        momentum(0.05, 20, 64), torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)),
    run("breast cancer, one cycle", load_breast_cancer, 341, 16, scheduled(
        momentum(0.02, 20, 32), torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=21)),
    run("breast cancer, stopped early", load_breast_cancer, 341, 16, decayed(0.01, 6, 32)),
    run("CIFAR-2, BatchNorm", _cifar2, 600, nets.NormedCNN, decayed(0.003, 15, 32)),
    run("MNIST, one cycle, 670k", _mnist, 1500, nets.WideMLP, scheduled(
        momentum(0.01, 10, 64), torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=11)),
]  # fmt: skip


@cache
def fitted(name: str, seed: int) -> tuple[Problem, object]:
    """A problem and its net, trained from what other rows taught it where it is fine-tuned."""
    spec = spec_of(f"run/{name}")
    found = spec.load(name, seed, None, None)
    if spec.more["pretrained"]:
        *_, X, y = spec.more["rows"](seed, spec.n_train, spec.n_test)
        others = slice(spec.n_test, spec.n_test + spec.n_train)
        torch.manual_seed(1000 + seed)
        start = found.model.set_params(max_epochs=20).fit(X[others], y[others])
        state = {k: v.clone() for k, v in start.module_.state_dict().items()}
        found.model = spec.model(*found.train).set_params(module__state=state)
    return found, found.fit()
