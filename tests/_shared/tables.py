"""Small tables and how they are split; nothing here depends on a global random state."""

import numpy as np
import torch
from sklearn.datasets import load_digits, load_iris


def split(X, y, n_train, n_query=None):
    """Training X and y, then the rows that follow as queries: all of them, or ``n_query``."""
    end = None if n_query is None else n_train + n_query
    return X[:n_train], y[:n_train], X[n_train:end], y[n_train:end]


def coarse_digits():
    """Every third pixel of the digits 0 to 3, between 0 and 1, and their labels."""
    X, y = load_digits(n_class=4, return_X_y=True)
    return X[:, ::3] / 16, y


def shuffled_iris():
    """Iris with its classes mixed."""
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    return X[order], y[order]


def random_classes(n, n_features, n_classes, seed=0):
    """Tensors of normal features, and labels that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    X = torch.tensor(rng.normal(size=(n, n_features)))
    return X, torch.tensor(rng.integers(0, n_classes, n))
