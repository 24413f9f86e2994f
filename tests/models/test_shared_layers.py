"""Layers with two names, parameters in lists or functions: products with curvature matrices."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import ConjugateGradient, Hessian
from influencekit.models._call import call_module

LAM = 0.1
pytestmark = pytest.mark.filterwarnings(
    "ignore::influencekit.exceptions.NotStationaryWarning",
    "ignore::influencekit.exceptions.NegativeCurvatureWarning",
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.hidden(x)))


class TwoNames(Net):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(self.a)

    def hidden(self, x):
        return self.body(x)


class Listed(Net):
    def __init__(self):
        super().__init__()
        self.held = [self.a.weight, self.a.bias]

    def hidden(self, x):
        return F.linear(x, *self.held)


class Closed(Net):
    def __init__(self):
        super().__init__()
        weight = self.a.weight
        self.hidden = lambda x: F.linear(x, weight) + self.a.bias


class InAnObject(Net):
    def __init__(self):
        super().__init__()
        self.held = SimpleNamespace(weight=self.a.weight)

    def hidden(self, x):
        return x @ self.held.weight.T + self.a.bias


def outputs(theta, X):
    """The same network written out, in float64."""
    a, c, b, d = theta[:12].reshape(3, 4), theta[12:15], theta[15:18], theta[18]
    return torch.tanh(X @ a.T + c) @ b + d


def expected(net, X, y, matrix):
    own = (net.a.weight, net.a.bias, net.b.weight, net.b.bias)
    theta = torch.cat([p.detach().double().flatten() for p in own])
    jacobian = torch.autograd.functional.jacobian(lambda t: outputs(t, X), theta)
    g = 2 * (outputs(theta, X) - y)[:, None] * jacobian
    if matrix == "ggn":
        curvature = 2 * jacobian[:16].T @ jacobian[:16] / 16
    else:
        curvature = torch.autograd.functional.hessian(
            lambda t: ((outputs(t, X[:16]) - y[:16]) ** 2).mean(), theta
        )
        values, vectors = torch.linalg.eigh(curvature)
        curvature = (vectors * values.abs()) @ vectors.T
    return (
        g[16:] @ torch.linalg.solve(curvature + LAM * torch.eye(19, dtype=g.dtype), g[:16].T) / 16
    )


@pytest.mark.parametrize("kind", [TwoNames, Listed, Closed, InAnObject])
@pytest.mark.parametrize("matrix", ["ggn", "hessian"])
def test_products_move_every_use_of_a_parameter(kind, matrix):
    torch.manual_seed(0)
    net, X = kind().double(), torch.randn(20, 4).double()
    y = torch.randn(20).double()
    curvature = ConjugateGradient(rtol=1e-10) if matrix == "ggn" else Hessian(negative="absolute")
    influence = InfluenceFunction(curvature, LAM)
    influence.fit(as_task(net, loss=nn.MSELoss()), X[:16], y[:16, None])
    reference = expected(net, X, y, matrix).numpy()
    scores = influence.score(X[16:], y[16:, None])
    np.testing.assert_allclose(scores, reference, rtol=0, atol=1e-7 * abs(reference).max())


def test_a_layer_with_two_names_has_its_own_tensors_after_a_call():
    net, X = TwoNames(), torch.ones(2, 4)
    own, before = net.a.weight, net(X)
    call_module(net, X, {k: torch.zeros_like(p) for k, p in net.named_parameters()})
    assert net.a.weight is own
    torch.testing.assert_close(net(X), before)
