"""Nets on long tables: the rows' coordinates are not held, and scores are the same."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature.exact import _unheld

N, M, DAMPING = 320, 5, 0.03
pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(_unheld, "LONG", N)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 30), nn.Tanh(), nn.Linear(30, 1)).double()
    X = torch.randn(N + M, 8, dtype=torch.float64)
    return net, X, (X[:, :1] + 0.5 * torch.randn(N + M, 1) > 0).double()


def reference(net, X, y):
    """Scores and self-influence in closed form, in numpy."""
    W, b, v, c = (p.detach().numpy() for p in net.parameters())
    X, y = X.numpy(), y.numpy()
    h = np.tanh(X @ W.T + b)
    slopes = v * (1 - h**2)
    J = np.hstack([np.einsum("nh,nd->nhd", slopes, X).reshape(len(X), -1), slopes, h, 1 + 0 * y])
    p = 1 / (1 + np.exp(-(h @ v.T + c)))
    gradients, spread = (p - y) * J, p * (1 - p)
    matrix = (spread * J)[:N].T @ J[:N] / N + DAMPING * np.eye(J.shape[1])
    solved = np.linalg.solve(matrix, gradients[:N].T)
    return gradients[N:] @ solved / N, (gradients[:N].T * solved).sum(0) / N


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
