"""Columns of very different units: no direction is lost, whatever the intercept and deviance."""

import numpy as np
import pytest
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC

from influencekit import InfluenceFunction
from influencekit.exceptions import InfluenceKitWarning

n = 80
rng = np.random.default_rng(0)
Z = rng.normal(size=(n, 4))
UNITS = np.array([1e6, 1.0, 1e-5, 10.0])
X = Z * UNITS
y = (Z.sum(1) + rng.logistic(size=n) > 0).astype(int)
t = Z.sum(1) + rng.normal(size=n)
g = rng.gamma(3, np.exp(Z.sum(1) / 5)) + 0.1
#: From scikit-learn 1.7 on, least squares leave out directions of small columns.
ALL = {"tol": 1e-14} if hasattr(LinearRegression(), "tol") else {}
NEWTON = {"solver": "newton-cholesky", "tol": 1e-8, "max_iter": 1000}


def reference(model, kind, penalty, target, with_intercept=True, penalized_intercept=False):
    """Scores of predictions or margins, from a dense Hessian in scaled columns."""
    A = np.c_[X, np.ones(n)] if with_intercept else X
    theta = np.ravel(model.coef_)
    theta = np.r_[theta, np.ravel(model.intercept_)] if with_intercept else theta
    f, sign = A @ theta, 2.0 * target - 1
    p, mu = 1 / (1 + np.exp(-f)), np.exp(f)
    slack = np.maximum(0, 1 - sign * f)
    slope, curvature = {
        "squares": (2 * (f - target), np.full(n, 2.0)),
        "logistic": (p - target, p * (1 - p)),
        "hinge": (-2 * sign * slack, 2.0 * (slack > 0)),
        "poisson": (mu - target, mu),
        "log squares": ((mu - target) * mu, mu * (2 * mu - target)),
        "cubic": ((mu - target) / mu**2, (2 * target - mu) / mu**2),
    }[kind]
    R = np.full(A.shape[1], penalty)
    if with_intercept and not penalized_intercept:
        R[-1] = 0.0
    H = A.T @ (curvature[:, None] * A) + np.diag(R)
    S = 1 / np.sqrt(np.diag(H))
    steps = S[:, None] * np.linalg.solve(S[:, None] * H * S, S[:, None] * (A * slope[:, None]).T)
    scores = -A[:6] @ steps
    if kind in ("logistic", "hinge"):
        return sign[:6, None] * scores
    return scores if kind == "squares" else mu[:6, None] * scores


CASES = {
    "least squares": (LinearRegression(fit_intercept=False, **ALL), "squares", 0, t, False),
    "ridge": (Ridge(0.1, fit_intercept=False, solver="svd"), "squares", 0.2, t, False),
    "logistic": (LogisticRegression(fit_intercept=False, **NEWTON), "logistic", 1, y, False),
    "liblinear": (
        LogisticRegression(solver="liblinear", tol=1e-9, max_iter=9999),
        *("logistic", 1, y, True, True),
    ),
    "svc": (LinearSVC(dual=False, tol=1e-9, max_iter=9999), "hinge", 1, y, True, True),
    "poisson": (PoissonRegressor(alpha=1, fit_intercept=False, **NEWTON), "poisson", n, g, False),
    "log link": (TweedieRegressor(power=0, link="log", **NEWTON), "log squares", n, g),
    "cubic": (TweedieRegressor(power=3, **NEWTON), "cubic", n, g),
}


@pytest.mark.parametrize("case", CASES)
def test_no_direction_is_lost(case):
    model, kind, penalty, target, *intercept = CASES[case]
    model.fit(X, target)
    output = "margin" if kind in ("logistic", "hinge") else "prediction"
    influence = InfluenceFunction(output=output, damping=0).fit(model, X, target)
    expected = reference(model, kind, penalty, target, *intercept)
    np.testing.assert_allclose(
        influence.score(X[:6], target[:6]), expected, atol=1e-6 * np.abs(expected).max(), rtol=0
    )


def test_curvatures_of_raw_columns_warn():
    units = X * [1e3, 1, 1, 1]
    model = Ridge(solver="svd").fit(units, t)
    with pytest.warns(InfluenceKitWarning, match="differ in size by a factor of"):
        InfluenceFunction("cg").fit(model, units, t)
