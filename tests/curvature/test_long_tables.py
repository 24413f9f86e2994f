"""Nets on long tables: coordinates of rows are not held, the curvature is that of some rows."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature.exact import _automatic, _unheld
from influencekit.curvature.exact._some_rows import GaussNewtonOfSome

N, M, DAMPING = 320, 5, 0.03
pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(_unheld, "LONG", N)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 30), nn.Tanh(), nn.Linear(30, 1)).double()
    X = torch.randn(N + M, 8, dtype=torch.float64)
    return net, X, (X[:, :1] + 0.5 * torch.randn(N + M, 1) > 0).double()


def reference(net, X, y, weights=None, k=N):
    """Scores and self-influence in closed form, in numpy.

    The curvature is that of k rows: the middle one of each k-th of them, ordered by the norms of
    their gradients.
    """
    W, b, v, c = (p.detach().numpy() for p in net.parameters())
    X, y = X.numpy(), y.numpy()
    h = np.tanh(X @ W.T + b)
    slopes = v * (1 - h**2)
    J = np.hstack([np.einsum("nh,nd->nhd", slopes, X).reshape(len(X), -1), slopes, h, 1 + 0 * y])
    p = 1 / (1 + np.exp(-(h @ v.T + c)))
    gradients, spread = (p - y) * J, p * (1 - p)
    weights = np.ones(N) if weights is None else weights
    order = np.argsort((gradients[:N] ** 2).sum(1), kind="stable")
    some = order[[int((i + 0.5) * N / k) for i in range(k)]]
    share = weights[some] / weights[some].sum()
    matrix = (share[:, None] * (spread * J)[some]).T @ J[some] + DAMPING * np.eye(J.shape[1])
    solved = np.linalg.solve(matrix, gradients[:N].T)
    share = weights / weights.sum()
    return gradients[N:] @ solved * share, (gradients[:N].T * solved).sum(0) * share


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_scores_without_coordinates_are_those_of_a_dense_solve(problem, dtype, close):
    net, X, y = problem
    scores, own = reference(net, X, y)
    task = as_task(copy.deepcopy(net).to(dtype), loss=nn.BCEWithLogitsLoss())
    X, y = X.to(dtype), y.to(dtype)
    found = InfluenceFunction("ggn", damping=DAMPING, output="neg_loss")
    found.fit(task, X[:N], y[:N])
    assert found.fitted_[0].curvature.train_coordinates.numel() == 0
    np.testing.assert_allclose(found.score(X[N:], y[N:]), scores, atol=close * np.abs(scores).max())
    np.testing.assert_allclose(found.self_influence(), own, rtol=10 * close)


def test_the_default_damping_is_that_of_held_coordinates(problem, monkeypatch):
    net, X, y = problem
    task = as_task(net, loss=nn.BCEWithLogitsLoss())
    found = [InfluenceFunction("ggn").fit(task, X[:N], y[:N]).damping_]
    monkeypatch.setattr(_unheld, "LONG", 10**9)
    found.append(InfluenceFunction("ggn").fit(task, X[:N], y[:N]).damping_)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize("k", [1, 75, N, 10 * N])
def test_curvature_of_some_rows_is_that_of_a_dense_solve(problem, k):
    net, X, y = problem
    weights = np.random.default_rng(0).uniform(0.5, 2, N)
    scores, own = reference(net, X, y, weights, min(k, N))
    task = as_task(net, loss=nn.BCEWithLogitsLoss())
    found = InfluenceFunction(GaussNewtonOfSome(k), damping=DAMPING, output="neg_loss")
    found.fit(task, X[:N], y[:N], sample_weight=weights)
    np.testing.assert_allclose(found.score(X[N:], y[N:]), scores, atol=1e-9 * np.abs(scores).max())
    np.testing.assert_allclose(found.self_influence(), own, rtol=1e-8)


def test_which_rows_does_not_depend_on_their_order(problem):
    net, X, y = problem
    task = as_task(net, loss=nn.BCEWithLogitsLoss())
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    found = []
    for rows in (torch.arange(N), order):
        influence = InfluenceFunction(GaussNewtonOfSome(75)).fit(task, X[rows], y[rows])
        found.append(influence.score(X[N:], y[N:])[:, rows.argsort().numpy()])
    np.testing.assert_allclose(*found, atol=1e-9 * np.abs(found[0]).max())


def test_projected_curvature_of_all_rows_is_the_exact_one(problem):
    net, X, y = problem
    task = as_task(net, loss=nn.BCEWithLogitsLoss())
    how = {"damping": DAMPING, "projection_dim": 40, "random_state": 0}
    kinds = [GaussNewtonOfSome(), "ggn"]
    both = [InfluenceFunction(kind, **how).fit(task, X[:N], y[:N]) for kind in kinds]
    found = [influence.score(X[N:], y[N:]) for influence in both]
    np.testing.assert_allclose(*found, atol=1e-9 * np.abs(found[1]).max())


def test_the_default_takes_some_rows_of_long_tables_only(problem, monkeypatch):
    net, X, y = problem
    convex = LogisticRegression().fit(X, y[:, 0])

    def kinds():
        nets = InfluenceFunction().fit(as_task(net, loss=nn.BCEWithLogitsLoss()), X[:N], y[:N])
        linear = InfluenceFunction().fit(convex, X, y[:, 0])
        return [type(one.curvature_.settings).__name__ for one in (nets, linear)]

    monkeypatch.setattr(_automatic, "LONG_TABLE", N)
    assert kinds() == ["GaussNewtonOfSome", "GaussNewton"]
    monkeypatch.setattr(_automatic, "LONG_TABLE", N + 1)
    assert kinds()[0] == "GaussNewton"
