"""Tables and the tree models that fit them: scikit-learn's, XGBoost's and LightGBM's."""

from __future__ import annotations

import numpy as np
from sklearn import ensemble
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from benchmarks.problems import data
from influencekit.datasets import fetch_acs_income, fetch_uci_concrete


def _four_digits(return_X_y=True):
    X, y = load_digits(return_X_y=True)
    chosen = np.isin(y, (3, 5, 8, 9))
    return X[chosen], np.unique(y[chosen], return_inverse=True)[1]


def _concrete(return_X_y=True):
    return fetch_uci_concrete(data_home=data.home_of(data.CONCRETE), return_X_y=return_X_y)


def _income(return_X_y=True):
    """Of all states."""
    X, y = fetch_acs_income(data_home=data.home_of(data.ACS), return_X_y=return_X_y)
    return X, np.asarray(y).astype(int)


TABLES = {
    "diabetes": load_diabetes, "breast cancer": load_breast_cancer, "wine": load_wine,
    "digits 3, 5, 8, 9": _four_digits, "Concrete": _concrete, "income": _income,
}  # fmt: skip
_HIST = {"max_iter": 50, "max_leaf_nodes": 15, "early_stopping": False}
_XGBOOST = {"n_estimators": 50, "max_depth": 4, "learning_rate": 0.1, "n_jobs": 1}
_LIGHTGBM = {"n_estimators": 50, "num_leaves": 15, "n_jobs": 1, "verbose": -1}
#: Library, class without the words Classifier and Regressor, options.
MODELS = {
    "HistGradientBoosting": ("sklearn", "HistGradientBoosting", _HIST),
    "GradientBoosting": ("sklearn", "GradientBoosting", {"n_estimators": 50}),
    "XGBoost": ("xgboost", "XGB", _XGBOOST),
    "XGBoost sampled": ("xgboost", "XGB", {**_XGBOOST, "subsample": 0.7}),
    "LightGBM": ("lightgbm", "LGBM", _LIGHTGBM),
    "RandomForest": ("sklearn", "RandomForest", {"n_estimators": 100}),
    "ExtraTrees": ("sklearn", "ExtraTrees", {"n_estimators": 100}),
}


def model(name: str, classifies: bool, **changes):
    """Unfitted, with a seed of its own."""
    library, kind, options = MODELS[name]
    module = ensemble if library == "sklearn" else __import__(library)
    make = getattr(module, kind + ("Classifier" if classifies else "Regressor"))
    return make(random_state=0, **{**options, **changes})


def split(table: str, n_train: int, n_query: int) -> tuple:
    """Training rows and queries; numbers to explain have a spread of 1."""
    X, y = TABLES[table](return_X_y=True)
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y)
    y = y / y.std() if y.dtype.kind == "f" else y
    order = np.random.default_rng(0).permutation(len(X))
    train, query = order[: min(n_train, int(0.75 * len(X)))], order[-n_query:]
    return X[train], y[train], X[query], y[query]


def made(n: int) -> tuple:
    """Rows of 20 columns and a number that four of them explain."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 20))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + X[:, 3] + rng.normal(size=n)
    return X, y
