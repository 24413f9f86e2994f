"""Solvers that stopped before the optimum: noticed whatever the units of the columns are."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction
from influencekit.exceptions import NotStationaryWarning

n = 160
rng = np.random.default_rng(1)
year, income = rng.integers(1990, 2024, n).astype(float), rng.lognormal(10, 1, n)
X = np.c_[year, income, 40.7 + 0.05 * rng.normal(size=n), 1e-4 * rng.normal(size=n)]
z = (year - 2007) / 10 + np.log(income) - 10 + 5e3 * X[:, 3]
t = z + rng.normal(size=n)
y = (z + rng.logistic(size=n) > 0).astype(int)
counts = rng.poisson(np.exp(z / 4))


def warnings_of(model, target):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, target)
        InfluenceFunction().fit(model, X, target)
    return [str(w.message) for w in caught if w.category is NotStationaryWarning]


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (LogisticRegression(), y),
        (LogisticRegression(C=np.inf, solver="newton-cholesky"), y),
        (PoissonRegressor(alpha=0), counts),
        (Ridge(solver="sag", random_state=0), t),
    ],
    ids=["lbfgs", "newton-cholesky", "poisson", "sag"],
)
def test_a_stop_along_small_columns_is_noticed(model, target):
    assert warnings_of(model, target)
    assert not warnings_of(make_pipeline(StandardScaler(), model), target)


@pytest.mark.skipif(
    not hasattr(LinearRegression(), "tol"), reason="before scikit-learn 1.7 it leaves none out"
)
def test_directions_that_lstsq_left_out_are_named():
    model = LinearRegression()
    (message,) = warnings_of(model, t)
    assert f"left out {4 - model.rank_} of 4 directions" in message
    assert not warnings_of(make_pipeline(StandardScaler(), LinearRegression()), t)


def test_collinear_columns_are_no_stop():
    doubled = np.c_[X[:, :1], X[:, :1], np.eye(3)[rng.integers(0, 3, n)]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotStationaryWarning)
        InfluenceFunction().fit(LinearRegression().fit(doubled, t), doubled, t)
