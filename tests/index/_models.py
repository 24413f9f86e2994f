"""Small models and data that the tests of saved attributors and indexes share."""

from functools import cache

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier


def data(n=90, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = (X @ [1.0, -1.0, 0.5, 0.0] + rng.logistic(size=n) > 0).astype(int)
    return X, y


X, y = data()
X_query, y_query = data(12, seed=1)


@cache
def linear(C=1.0):
    return LogisticRegression(C=C, max_iter=1000, tol=1e-10).fit(X, y)


@cache
def net(seed=0, n_epochs=60):
    model = MLPClassifier((5,), max_iter=n_epochs, random_state=seed, learning_rate_init=0.02)
    return model.fit(X, y)


def influence_by_hand(model, rows, targets, queries, query_targets, n):
    """Scores of LogisticRegression for the negative loss in numpy, at λ = 0 (penalty 1 / C / n)."""

    def with_ones(A):
        return np.c_[A, np.ones(len(A))]

    theta = np.r_[model.coef_[0], model.intercept_]
    p = 1 / (1 + np.exp(-with_ones(X) @ theta))
    penalty = np.diag([1 / model.C / n] * len(model.coef_[0]) + [0.0])
    hessian = (with_ones(X).T * p * (1 - p)) @ with_ones(X) / n + penalty

    def gradients(A, t):
        return with_ones(A) * (1 / (1 + np.exp(-with_ones(A) @ theta)) - t)[:, None]

    # f = -loss, so -<∇f, H⁻¹ ∇loss> / n = <∇loss_i, H⁻¹ ∇loss_j> / n
    return (
        gradients(queries, query_targets) @ np.linalg.solve(hessian, gradients(rows, targets).T) / n
    )
