"""Data, models and recipes of ``bench_selectors.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from torch import nn


@dataclass
class Data:
    """A fitted model with its training rows and queries."""

    model: Any
    X: np.ndarray
    y: np.ndarray
    X_query: np.ndarray
    y_query: np.ndarray
    accuracy: float


class MLP(nn.Module):
    """Fully connected, ReLU."""

    def __init__(self, sizes, state=None):
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        if state is not None:
            self.load_state_dict(state)

    def forward(self, X):
        return self.layers(X)


class CNN(nn.Module):
    """Two convolutions of 16x16 color images and a linear layer."""

    def __init__(self, state=None):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 2),
        )
        if state is not None:
            self.load_state_dict(state)

    def forward(self, X):
        return self.layers(X)


SGD = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
ADAMW = {"optimizer": torch.optim.AdamW}


def make_net(module, classifies: bool, recipe: dict, **module_options) -> NeuralNet:
    """Unfitted skorch net."""
    kind = NeuralNetClassifier if classifies else NeuralNetRegressor
    loss = nn.CrossEntropyLoss if classifies else nn.MSELoss
    options = {"batch_size": 64} | recipe
    return kind(
        module,
        criterion=loss,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **{f"module__{key}": value for key, value in module_options.items()},
        **options,
    )


def digits(folder, rng, n_train, n_test):
    """Pixels of scikit-learn's digits."""
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    return (X / 16)[order], y[order]


def mnist(folder, rng, n_train, n_test):
    """MNIST's training images, averaged to 14x14."""
    file = np.load(Path(folder) / "mnist" / "mnist.npz")
    rows = rng.choice(len(file["X_train"]), n_train + n_test, replace=False)
    images = file["X_train"][rows].astype(np.float64) / 255
    return images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196), file["y_train"][rows]


def cifar2(folder, rng, n_train, n_test):
    """Cats and dogs, averaged to 16x16."""
    file = np.load(Path(folder) / "cifar2" / "cifar2_cat_dog.npz")
    rows = rng.choice(len(file["X_train"]), n_train + n_test, replace=False)
    images = (file["X_train"][rows].astype(np.float64) / 255 - 0.5) / 0.25
    images = images.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    return images, file["y_train"][rows]


def acs(folder, rng, n_train, n_test):
    """ACSIncome, California: two scaled columns and eight of dummies."""
    frame = pd.read_csv(Path(folder) / "acs_income_2018" / "acs_income_2018_CA.csv.gz")
    frame = frame.iloc[rng.choice(len(frame), n_train + n_test, replace=False)]
    numbers = StandardScaler().fit_transform(frame[["AGEP", "WKHP"]])
    codes = ["COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "SEX", "RAC1P"]
    dummies = OneHotEncoder(sparse_output=False).fit_transform(frame[codes])
    return np.hstack([numbers, dummies]), frame["y"].to_numpy()


def concrete(folder, rng, n_train, n_test):
    """Strength of concrete, all columns scaled."""
    frame = pd.read_csv(Path(folder) / "uci_concrete" / "concrete.csv.gz")
    values = StandardScaler().fit_transform(frame.to_numpy(dtype=float))
    values = values[rng.permutation(len(values))]
    return values[:, :-1], values[:, -1:]


def diabetes(folder, rng, n_train, n_test):
    """Progression of diabetes, all columns scaled."""
    X, y = load_diabetes(return_X_y=True)
    values = StandardScaler().fit_transform(np.column_stack([X, y]))
    values = values[rng.permutation(len(values))]
    return values[:, :-1], values[:, -1:]


@dataclass
class Setting:
    """One data set, model and recipe.

    ``dims`` are the projections; ``exact_ggn`` says whether the Gauss-Newton matrix is also
    decomposed without one.
    """

    name: str
    read: Callable
    n_train: int
    make: Callable  # from the number of features, an unfitted model
    recipe: dict
    dims: tuple
    classifies: bool = True
    exact_ggn: bool = True
    n_subsets: int = 80
    n_repeats: int = 2
    n_seeds: int = 2
    needs_data: bool = True
    half: str = "calibrate"

    def load(self, folder, seed: int, n_query: int) -> Data:
        """Draw the rows and train."""
        rng = np.random.RandomState(seed)
        X, y = self.read(folder, rng, self.n_train, n_query)
        X = X.astype(np.float32)
        y = y.astype(np.int64 if self.classifies else np.float32)
        train, query = slice(0, self.n_train), slice(self.n_train, self.n_train + n_query)
        model = self.make(X.shape[1]).fit(X[train], y[train])
        score = float(model.score(X[query], y[query]))
        return Data(model, X[train], y[train], X[query], y[query], score)

    @property
    def warm(self):
        """Builder of a net that starts where the trained one ended; None without epochs."""
        return continued if self.recipe else None

    def horizon(self, data: Data) -> dict:
        """Length of the training run: Σ lr over steps, momentum's gain included."""
        if not self.recipe:
            return {"horizon": None, "optimizer": "exact"}
        batch = self.recipe.get("batch_size", 64)
        steps = self.recipe["max_epochs"] * -(-self.n_train // batch)
        rate = self.recipe["lr"]
        if self.recipe["optimizer"] is torch.optim.SGD:
            gain = 1 / (1 - self.recipe.get("optimizer__momentum", 0.0))
            return {"horizon": rate * steps * gain, "optimizer": "sgd", "steps": steps}
        states = data.model.optimizer_.state.values()
        correction = 1 - 0.999**steps
        scale = torch.cat([s["exp_avg_sq"].flatten() / correction for s in states]).sqrt()
        return {
            "horizon": float(rate * steps / scale.median().clamp_min(1e-8)),
            "horizon_rms": float(rate * steps / scale.square().mean().sqrt()),
            "optimizer": "adam",
            "steps": steps,
        }


def continued(data: Data, share: float) -> NeuralNet:
    """Unfitted net whose initial weights are the trained ones, for a share of the epochs."""
    net = clone(data.model)
    state = {k: v.detach().clone() for k, v in data.model.module_.state_dict().items()}
    epochs = max(1, round(share * data.model.max_epochs))
    return net.set_params(module__state=state, max_epochs=epochs)


def mlp(hidden, n_outputs, classifies, recipe, n_features):
    """Unfitted MLP for so many features."""
    sizes = (n_features, *hidden, n_outputs)
    return make_net(MLP, classifies, recipe, sizes=sizes)


def cnn(recipe, n_features):
    """Unfitted CNN."""
    return make_net(CNN, True, recipe)


def logistic(C, n_features):
    """Unfitted softmax regression."""
    return LogisticRegression(C=C, max_iter=2000)


def mlp_setting(name, read, n, hidden, n_outputs, recipe, dims, **options) -> Setting:
    """Setting of an MLP."""
    classifies = options.get("classifies", True)
    make = partial(mlp, hidden, n_outputs, classifies, recipe)
    return Setting(name, read, n, make, recipe, dims, **options)


def settings() -> list[Setting]:
    """All settings; ``half`` was fixed before anything was measured with them."""
    own = {"needs_data": False}
    test = {"half": "test"}
    return [
        mlp_setting(
            "digits-sgd-decay",
            digits,
            800,
            (32,),
            10,
            SGD | {"lr": 0.05, "max_epochs": 60, "optimizer__weight_decay": 5e-3},
            (None, 256),
            **own,
        ),
        mlp_setting(
            "digits-adamw",
            digits,
            800,
            (32,),
            10,
            ADAMW | {"lr": 3e-3, "max_epochs": 15},
            (None, 256),
            **own,
        ),
        Setting("digits-softmax", digits, 600, partial(logistic, 1.0), {}, (None, 128), **own),
        mlp_setting(
            "acs-20k",
            acs,
            20_000,
            (128, 128),
            2,
            SGD
            | {"lr": 0.05, "max_epochs": 10, "optimizer__weight_decay": 1e-4, "batch_size": 256},
            (256, 1024),
            n_subsets=24,
            n_repeats=2,
            n_seeds=1,
        ),
        mlp_setting(
            "concrete-sgd",
            concrete,
            700,
            (32,),
            1,
            SGD | {"lr": 0.01, "max_epochs": 100, "optimizer__weight_decay": 1e-3},
            (None, 128),
            classifies=False,
            **test,
        ),
        mlp_setting(
            "mnist-sgd",
            mnist,
            800,
            (48,),
            10,
            SGD | {"lr": 0.03, "max_epochs": 30, "optimizer__weight_decay": 1e-3},
            (None, 512),
            exact_ggn=False,
        ),
        mlp_setting(
            "digits-sgd",
            digits,
            800,
            (32,),
            10,
            SGD | {"lr": 0.05, "max_epochs": 15},
            (None, 256),
            **own,
            **test,
        ),
        mlp_setting(
            "mnist-adamw",
            mnist,
            800,
            (48,),
            10,
            ADAMW | {"lr": 2e-3, "max_epochs": 20},
            (None, 512),
            exact_ggn=False,
            **test,
        ),
        Setting(
            "acs-logistic",
            acs,
            1000,
            partial(logistic, 0.1),
            {},
            (None, 256),
            n_repeats=1,
            **test,
        ),
        mlp_setting(
            "acs-2k-sgd",
            acs,
            2000,
            (64, 64),
            2,
            SGD
            | {"lr": 0.05, "max_epochs": 20, "optimizer__weight_decay": 1e-4, "batch_size": 128},
            (None, 512),
            n_subsets=50,
            n_seeds=1,
            exact_ggn=False,
            **test,
        ),
        mlp_setting(
            "diabetes-adam",
            diabetes,
            280,
            (32,),
            1,
            {"optimizer": torch.optim.Adam, "lr": 3e-3, "max_epochs": 40}
            | {"optimizer__weight_decay": 1e-2},
            (None, 128),
            classifies=False,
            **own,
        ),
        Setting(
            "cifar2-cnn",
            cifar2,
            1000,
            partial(cnn, SGD | {"lr": 0.01, "max_epochs": 20, "optimizer__weight_decay": 1e-3}),
            SGD | {"lr": 0.01, "max_epochs": 20, "optimizer__weight_decay": 1e-3},
            (None, 512),
            n_subsets=60,
            n_seeds=1,
            **test,
        ),
    ]


SETTINGS = {setting.name: setting for setting in settings()}
