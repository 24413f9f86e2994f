"""Tables as they come, and scikit-learn's linear models that fit their targets."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.problems import data
from influencekit.datasets import fetch_acs_income, fetch_uci_concrete


def _concrete(return_X_y=True):
    return fetch_uci_concrete(data_home=data.home_of(data.CONCRETE), return_X_y=return_X_y)


def _income(return_X_y=True):
    X, y = fetch_acs_income("CA", data_home=data.home_of(data.ACS), return_X_y=return_X_y)
    rows = np.random.default_rng(0).permutation(len(X))[:2000]
    return X.iloc[rows].astype(float).to_numpy(), np.asarray(y)[rows].astype(int)


def _encoded_income(return_X_y=True):
    X, y = _income()
    codes = OneHotEncoder(
        min_frequency=20, sparse_output=False, handle_unknown="infrequent_if_exist"
    )
    numbers = [0, 7]  # age, hours of work
    others = [j for j in range(X.shape[1]) if j not in numbers]
    encode = make_column_transformer((StandardScaler(), numbers), (codes, others))
    return encode.fit_transform(X), y


def _bundled(name, return_X_y=True):
    """A table that comes with statsmodels: X, and what the models of the study predict."""
    import statsmodels.api as sm

    found = getattr(sm.datasets, name).load_pandas()
    X, y = found.exog.to_numpy(dtype=float), np.asarray(found.endog, dtype=float)
    if name == "star98":
        y = y[:, 0]  # pupils above the median, of each district
    return X, (y > 0).astype(int) if name == "fair" else y


CLASSES = {
    "breast cancer": load_breast_cancer, "wine": load_wine, "iris": load_iris,
    "digits": load_digits, "income, codes": _income, "income, encoded": _encoded_income,
    "fair": partial(_bundled, "fair"),
}  # fmt: skip
NUMBERS = {
    "diabetes": partial(load_diabetes, scaled=False),
    "diabetes, scaled": load_diabetes,
    "concrete": _concrete,
}
COUNTS = {name: partial(_bundled, name) for name in ("randhie", "star98")}
MODELS = {
    "logistic": LogisticRegression(solver="newton-cholesky", tol=1e-8, max_iter=1000),
    "least squares": LinearRegression(),
    "ridge": Ridge(1.0),
    "poisson": PoissonRegressor(alpha=0.0, solver="newton-cholesky", tol=1e-8, max_iter=1000),
}


def split(table: str, prepared: bool, n_train: int, n_query: int, rng) -> tuple:
    """Training rows and queries, standardized by the training rows if prepared."""
    X, y = (CLASSES | NUMBERS | COUNTS)[table](return_X_y=True)
    rows = rng.permutation(len(X))[: n_train + n_query]
    rows = rows[:-n_query] if len(rows) > 4 * n_query else rows
    train, query = rows[:-n_query], rows[-n_query:]
    X, y, Q, u = X[train], y[train], X[query], y[query]
    if prepared:
        scaler = StandardScaler().fit(X)
        X, Q = scaler.transform(X), scaler.transform(Q)
    return X, y, Q, u
