"""The default damping where rows have gradients in directions that have no curvature."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from tests._shared.marks import NOT_TRAINED
from tests._shared.nets import tanh_net

pytestmark = NOT_TRAINED

X = np.array([[0.5, -1.0], [-2.0, 1.5]])


@pytest.fixture
def module():
    torch.manual_seed(0)
    return tanh_net(2, 3, 1)


def jacobian(module, x):
    module.zero_grad()
    module(torch.tensor(x)[None]).sum().backward()
    return torch.cat([p.grad.flatten() for p in module.parameters()]).numpy()


@pytest.mark.parametrize("curvature", ["ggn", "cg"])
def test_a_gradient_outside_the_curvature_is_not_left_out(module, curvature):
    # the loss of the second row is linear: its Gauss-Newton matrix is that of the first
    y = module(torch.tensor(X)).detach().numpy() - np.array([[0.5], [5.0]])
    task = as_task(module, loss=nn.HuberLoss())
    fitted = InfluenceFunction(curvature, output="neg_loss").fit(task, X, y)
    first, second = (jacobian(module, x) for x in X)
    assert np.linalg.norm(second - first * (first @ second) / (first @ first)) > 0.1
    # ½ J₁ᵀ J₁ has one eigenvalue above 0
    eigenvalue = first @ first / 2
    assert fitted.damping_ == pytest.approx(eigenvalue, rel=1e-6)
    gradients = np.stack([0.5 * first, second])
    inverse = np.linalg.inv(np.outer(first, first) / 2 + eigenvalue * np.eye(len(first)))
    expected = gradients @ inverse @ gradients.T / 2
    np.testing.assert_allclose(fitted.score(X, y), expected, rtol=1e-3)


@pytest.mark.parametrize("curvature", ["ggn", "cg", "kfac"])
def test_rounding_of_directions_without_curvature_does_not_choose(curvature):
    # saturated units: one direction has curvature, and the others differ by rounding alone
    rng = np.random.default_rng(1)
    many, y = 30 * rng.normal(size=(6, 3)), 3 * rng.normal(size=(6, 1))
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 1)).double()
    net[2].weight.data.mul_(1e-3)
    task = as_task(net, loss=nn.HuberLoss())
    found = [
        InfluenceFunction(curvature, batch_size=size).fit(task, many, y).damping_
        for size in (1, 2, 3, 6)
    ]
    np.testing.assert_allclose(found, found[0], rtol=1e-3)


def test_rounding_beside_what_reaches_outside_does_not_choose():
    # float32, and half of the rows have linear losses: at a tiny damping rounding counts too
    rng = np.random.default_rng(3)
    many = rng.normal(size=(12, 5)).astype(np.float32)
    far = np.where(np.arange(12) % 2, 50.0, 0.3)[:, None].astype(np.float32)
    torch.manual_seed(3)
    net = tanh_net(5, 8, 1).float()
    y = net(torch.tensor(many)).detach().numpy() - far
    task = as_task(net, loss=nn.HuberLoss())
    fits = [InfluenceFunction("arnoldi", batch_size=b).fit(task, many, y) for b in (1, 2, 5, 12)]
    found = [fitted.damping_ for fitted in fits]
    np.testing.assert_allclose(found, found[0], rtol=1e-3)
    eigenvalues = sorted(fits[0].curvature_.eigenvalues.tolist())
    assert found[0] > 1e-6 * eigenvalues[-1]
