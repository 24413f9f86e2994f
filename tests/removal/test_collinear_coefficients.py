"""Coefficients of columns that others make superfluous, beside refits without each row."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier

from influencekit import InfluenceFunction
from influencekit.exceptions import InfluenceKitWarning

n = 60
rng = np.random.default_rng(0)
A, level = rng.normal(size=(n, 2)) * [1, 5] + [0, 20], rng.integers(0, 3, n)
X = np.c_[A, np.eye(3)[level], 2 * A[:, 0] + A[:, 1], np.full(n, 7.0)]
t = A[:, 0] + level + rng.normal(size=n)
y = (A[:, 0] + level - 1 + rng.logistic(size=n) > 0).astype(int)


def parameters(model):
    found = model.coef_.ravel()
    return np.r_[found, np.ravel(model.intercept_)] if model.fit_intercept else found


def changes(model, target):
    """Parameters minus those without each row, from refits."""
    refits = [clone(model).fit(np.delete(X, j, 0), np.delete(target, j)) for j in range(n)]
    return parameters(model)[:, None] - np.stack([parameters(one) for one in refits], axis=1)


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        LinearRegression(fit_intercept=False),
        RidgeClassifier(alpha=0, solver="lsqr", tol=1e-14),
    ],
    ids=["intercept", "no intercept", "classifier"],
)
def test_least_squares_takes_the_smallest_coefficients(model):
    target = y if isinstance(model, RidgeClassifier) else t
    model.fit(X, target)
    influence = InfluenceFunction(output="coef", removal_order="newton").fit(model, X, target)
    found, expected = influence.score(range(len(parameters(model)))), changes(model, target)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max(), rtol=0)
    without = influence.predict_without([0, 1, 5], X[:3], refit=False)
    refit = clone(model).fit(np.delete(X, [0, 1, 5], 0), np.delete(target, [0, 1, 5]))
    np.testing.assert_allclose(without.coef, refit.coef_.ravel(), atol=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_solvers_from_zero_take_the_smallest_coefficients(fit_intercept):
    model = LogisticRegression(
        C=np.inf, tol=1e-10, max_iter=10_000, fit_intercept=fit_intercept
    ).fit(X, y)
    influence = InfluenceFunction(output="coef", removal_order="newton").fit(model, X, y)
    with pytest.warns(InfluenceKitWarning, match="not determined by the data"):
        found = influence.score(range(len(parameters(model))))
    expected = changes(model, y)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, expected, strict=True)]
    # one Newton step beside the refit
    assert min(correlations) > 0.98
    ratio = (found * expected).sum() / np.square(expected).sum()
    assert 0.85 < ratio < 1.1
