"""Modules that multiply with sparse matrices inside, against autograd, one example at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import GradDot, InfluenceFunction, RunAverage, as_task

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse", "ignore::influencekit.exceptions.NotStationaryWarning"
)
LOSS = nn.CrossEntropyLoss()


class SparseWeights(nn.Module):
    """A few trained entries of a matrix that is otherwise 0, as adapters have."""

    def __init__(self):
        super().__init__()
        self.layer, self.values = nn.Linear(5, 3), nn.Parameter(torch.randn(6))
        self.register_buffer("places", torch.stack([torch.arange(6) % 3, torch.arange(6) % 5]))

    def forward(self, x):
        weight = torch.sparse_coo_tensor(self.places, self.values, (3, 5))
        return self.layer(x) + torch.sparse.mm(weight, x.T).T


class Graph(nn.Module):
    """A fixed sparse matrix between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 3)
        self.register_buffer("edges", (torch.rand(5, 5) > 0.5).double().to_sparse())

    def forward(self, x):
        return self.last(torch.sparse.mm(self.edges, torch.tanh(self.first(x)).T).T)


def gradients(net, X, y):
    rows = []
    for i in range(len(y)):
        loss = LOSS(net(X[i : i + 1]), y[i : i + 1])
        parts = torch.autograd.grad(loss, tuple(net.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", [SparseWeights, Graph])
def test_sparse_products(kind):
    torch.manual_seed(0)
    net, X, y = kind().double(), torch.randn(16, 5).double(), torch.randint(0, 3, (16,))
    task, rows = as_task(net, loss=LOSS), gradients(net, X, y)
    train, queries = rows[:12], rows[12:]
    got = GradDot().fit(task, X[:12], y[:12]).score(X[12:], y[12:])
    np.testing.assert_allclose(got, queries @ train.T, rtol=1e-9, atol=1e-12)
    fisher = train.T @ train / 12 + 0.1 * torch.eye(rows.shape[1], dtype=rows.dtype)
    want = queries @ torch.linalg.solve(fisher, train.T) / 12
    got = InfluenceFunction("fisher", 0.1).fit(task, X[:12], y[:12]).score(X[12:], y[12:])
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-10)


def test_states_with_sparse_buffers():
    torch.manual_seed(0)
    net, X, y = Graph().double(), torch.randn(16, 5).double(), torch.randint(0, 3, (16,))
    task, state = as_task(net, loss=LOSS), net.state_dict()
    run = RunAverage(GradDot(), checkpoints=[state, state], slopes="own")
    got = run.fit(task, X[:12], y[:12]).score(X[12:], y[12:])
    rows = gradients(net, X, y)
    np.testing.assert_allclose(got, rows[12:] @ rows[:12].T, rtol=1e-9, atol=1e-12)
