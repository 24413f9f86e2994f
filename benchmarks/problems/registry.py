"""Problems by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone


@dataclass
class Problem:
    """Rows to train and to ask, and an unfitted model."""

    name: str
    model: Any
    X: Any
    y: Any
    X_test: Any
    y_test: Any
    spec: Spec
    seed: int = 0

    @property
    def data(self) -> tuple:
        """Training rows, then test rows."""
        return self.X, self.y, self.X_test, self.y_test

    @property
    def test(self) -> tuple:
        return self.X_test, self.y_test

    @property
    def train(self) -> tuple:
        return self.X, self.y

    def fit(self, seed: int | None = None) -> Any:
        """The model on all training rows, under a seed."""
        torch.manual_seed(self.seed if seed is None else seed)
        return clone(self.model).fit(self.X, self.y)


@dataclass(frozen=True)
class Spec:
    """How a problem is made.

    Parameters
    ----------
    read : callable
        ``read(seed, n_train, n_test)`` gives X, y, X_test, y_test.
    model : callable
        ``model(X, y)`` gives an unfitted estimator.
    n_train, n_test : int
    recipe : dict
        What trains the net; empty for a model at its optimum.
    classifies : bool
    more : dict
        What a family of problems adds.
    """

    read: Callable
    model: Callable
    n_train: int = 1000
    n_test: int = 100
    recipe: dict = field(default_factory=dict)
    classifies: bool = True
    more: dict = field(default_factory=dict)

    def load(self, name: str, seed: int, n_train: int | None, n_test: int | None) -> Problem:
        """Rows of a seed; the model's classes are told by all rows."""
        X, y, X_test, y_test = self.read(seed, n_train or self.n_train, n_test or self.n_test)
        return Problem(name, self.model(X, y), X, y, X_test, y_test, self, seed)


_SPECS: dict[str, Spec] = {}


def problem(name: str, spec: Spec) -> Spec:
    """Put a problem into the registry."""
    if name in _SPECS:
        raise ValueError(f"There is a problem {name!r} already.")
    _SPECS[name] = spec
    return spec


def names(prefix: str = "") -> list[str]:
    """Of all problems that begin so."""
    _import_all()
    return [name for name in _SPECS if name.startswith(prefix)]


def spec_of(name: str) -> Spec:
    _import_all()
    if name not in _SPECS:
        raise SystemExit(f"There is no problem {name!r}. There are: {', '.join(_SPECS)}.")
    return _SPECS[name]


def load(name: str, seed: int = 0, n_train: int | None = None, n_test: int | None = None):
    """Rows and model of a problem under a seed."""
    return spec_of(name).load(name, seed, n_train, n_test)


def _import_all() -> None:
    for found in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"benchmarks.problems.{found.name}")


# ---- how rows are drawn ------------------------------------------------------------------------


def in_order(read: Callable, classifies: bool = True) -> Callable:
    """Of a reader ``read(rng, n)`` in random order: first the training rows, then the others."""

    def draw(seed: int, n_train: int, n_test: int) -> tuple:
        X, y = read(np.random.RandomState(seed), n_train + n_test)
        X, y = X.astype(np.float32), y.astype(np.int64 if classifies else np.float32)
        train, test = slice(0, n_train), slice(n_train, n_train + n_test)
        return X[train], y[train], X[test], y[test]

    return draw


def two_files(read: Callable) -> Callable:
    """Of a reader ``read()`` that gives training and test files: rows of each at random."""

    def draw(seed: int, n_train: int, n_test: int) -> tuple:
        X, y, X_test, y_test = read()
        rng = np.random.RandomState(seed)
        train = rng.choice(len(X), n_train, replace=False)
        test = rng.choice(len(X_test), n_test, replace=False)
        return X[train], y[train], X_test[test], y_test[test]

    return draw


def most_for_test(read: Callable) -> Callable:
    """Of a reader ``read()``: at most three quarters to train, up to 5,000 others to test."""

    def draw(seed: int, n_train: int, n_test: int) -> tuple:
        X, y = read()
        X, y = np.asarray(X, dtype=np.float32), np.asarray(y, dtype=np.int64)
        order = np.random.default_rng([seed, 1]).permutation(len(X))
        n_train = min(n_train, 3 * len(X) // 4)
        train, test = order[:n_train], order[n_train : n_train + n_test]
        return X[train], y[train], X[test], y[test]

    return draw
