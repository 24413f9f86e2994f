"""Scores in units of the output: exact or Newton-retrained leave-one-out."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction
from influencekit.metrics import leave_one_out_correlation


def hat_diagonal(X, alpha, intercept):
    design = np.c_[X, np.ones(len(X))] if intercept else X
    penalty = alpha * np.eye(design.shape[1])
    if intercept:
        penalty[-1, -1] = 0
    return np.diag(design @ np.linalg.solve(design.T @ design + penalty, design.T))


def ridge_leave_one_out(X, y, X_test, alpha, intercept):
    """Prediction with all rows minus prediction without each, by the normal equations."""
    design = np.c_[X, np.ones(len(X))] if intercept else X
    design_test = np.c_[X_test, np.ones(len(X_test))] if intercept else X_test
    penalty = alpha * np.eye(design.shape[1])
    if intercept:
        penalty[-1, -1] = 0

    def predict(keep):
        A, b = design[keep], y[keep]
        return design_test @ np.linalg.solve(A.T @ A + penalty, A.T @ b)

    everything = predict(np.arange(len(X)))
    changes = [everything - predict(np.delete(np.arange(len(X)), j)) for j in range(len(X))]
    return np.array(changes).T


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(
    ("n", "p", "alpha"), [(200, 10, 3.0), (40, 90, 2.0), (30, 30, 0.5)], ids=["n>p", "p>n", "p=n"]
)
def test_ridge_is_exact_up_to_leverage(n, p, alpha, intercept):
    rng = np.random.default_rng(0)
    X, X_test = rng.normal(size=(n, p)), rng.normal(size=(7, p))
    y = X[:, 0] + rng.normal(size=n) + 3.0
    model = Ridge(alpha=alpha, fit_intercept=intercept).fit(X, y)
    attributor = InfluenceFunction(damping=0, output="prediction").fit(model, X, y)
    expected = ridge_leave_one_out(X, y, X_test, alpha, intercept)
    found = attributor.score(X_test) / (1 - hat_diagonal(X, alpha, intercept))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_linear_regression_is_exact_up_to_leverage():
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y = X[:300] * 20, X[300:310] * 20, y[:300]
    model = LinearRegression().fit(X, y)
    attributor = InfluenceFunction(damping=0, output="prediction").fit(model, X, y)
    expected = ridge_leave_one_out(X, y, X_test, 0.0, True)
    found = attributor.score(X_test) / (1 - hat_diagonal(X, 0.0, True))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_duplicated_row_counts_twice_in_the_unit():
    """The unit holds 1/n: with every row given twice, each copy weighs half."""
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y = X[:100] * 20, X[300:305] * 20, y[:100]
    once = InfluenceFunction(damping=0, output="prediction").fit(Ridge(1.0).fit(X, y), X, y)
    X2, y2 = np.r_[X, X], np.r_[y, y]
    twice = InfluenceFunction(damping=0, output="prediction").fit(Ridge(2.0).fit(X2, y2), X2, y2)
    np.testing.assert_allclose(
        twice.score(X_test)[:, :100] * 2, once.score(X_test), rtol=1e-9, atol=1e-12
    )


def newton_logistic(X, y, C, start):
    """Optimum of C Σ loss + |w|²/2 with a free intercept, by Newton's method."""
    design = np.c_[X, np.ones(len(X))]
    penalty = np.eye(design.shape[1])
    penalty[-1, -1] = 0
    theta = start.copy()
    for _ in range(30):
        p = 1 / (1 + np.exp(-design @ theta))
        gradient = C * design.T @ (p - y) + penalty @ theta
        hessian = C * (design.T * (p * (1 - p))) @ design + penalty
        theta = theta - np.linalg.solve(hessian, gradient)
    return theta


def test_logistic_regression_matches_newton_leave_one_out():
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    X, X_test, y, y_test = X[:500], X[500:530], y[:500], y[500:530]
    C = 0.02
    model = LogisticRegression(C=C, tol=1e-12, max_iter=10_000).fit(X, y)
    attributor = InfluenceFunction("ggn", damping=0, output="neg_loss").fit(model, X, y)

    def losses(theta):
        z = np.c_[X_test, np.ones(len(X_test))] @ theta
        return np.logaddexp(0, -(2 * y_test - 1) * z)

    start = np.r_[model.coef_[0], model.intercept_]
    full = newton_logistic(X, y, C, start)
    np.testing.assert_allclose(full, start, atol=1e-4)
    changes = np.stack(
        [
            losses(newton_logistic(np.delete(X, j, 0), np.delete(y, j), C, full)) - losses(full)
            for j in range(len(X))
        ],
        axis=1,
    )
    scores = attributor.score(X_test, y_test)
    pearson = np.corrcoef(scores.ravel(), changes.ravel())[0, 1]
    slope = np.polyfit(scores.ravel(), changes.ravel(), 1)[0]
    assert pearson >= 0.99
    assert 0.9 <= slope <= 1.1
    assert leave_one_out_correlation(changes, scores).mean >= 0.98


def test_sign_proponents_have_the_same_label_nearby():
    """A copy of the test example in the training data is its strongest proponent."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)[:200]
    y = y[:200]
    hard = 7
    flipped = np.r_[y, 1 - y[hard]]
    X_more = np.r_[X, X[hard : hard + 1]]
    model = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(X_more, flipped)
    scores = (
        InfluenceFunction()
        .fit(model, X_more, flipped)
        .score(X[hard : hard + 1], y[hard : hard + 1])
    )
    assert scores[0, hard] > 0
    assert scores[0, -1] == scores[0].min() < 0


def test_exact_where_feature_scales_differ():
    """Without damping, directions six decades apart are both kept."""
    rng = np.random.default_rng(0)
    X, X_test = rng.normal(size=(80, 3)), rng.normal(size=(5, 3))
    y = X.sum(1) + rng.normal(size=80)
    scales = np.array([1.0, 1.0, 1e6])
    model = Ridge(alpha=1e-4, solver="svd").fit(X * scales, y)  # next to no penalty
    attributor = InfluenceFunction(damping=0, output="prediction").fit(model, X * scales, y)
    expected = ridge_leave_one_out(X, y, X_test, 0.0, True)
    found = attributor.score(X_test * scales) / (1 - hat_diagonal(X, 0.0, True))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-4)


def test_data_without_curvature():
    X, y = np.zeros((4, 9)), np.arange(4.0)
    model = Ridge(fit_intercept=False).fit(X, y)
    scores = InfluenceFunction(damping=0, output="prediction").fit(model, X, y).score(X[:2])
    np.testing.assert_array_equal(scores, 0.0)
    with pytest.raises(ValueError, match="curvature of the model on its training data is zero"):
        InfluenceFunction(output="prediction").fit(
            LinearRegression(fit_intercept=False).fit(X, y), X, y
        )
