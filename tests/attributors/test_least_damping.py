"""The default damping of classifiers that were stopped before their optimum."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import make_curvature
from influencekit.damping import auto_damping
from influencekit.damping._least import (
    AT_OPTIMUM,
    effective_sample_size,
    supported_dimension,
)
from tests._shared.marks import NOT_TRAINED
from tests._shared.nets import tanh_net

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
Y = (X[:, 0] + 0.3 * RNG.normal(size=60) > 0).astype(int)


def stopped(n_outputs=2, n_hidden=8, steps=150, weight=None, y=Y):
    """Net that fits its rows nearly without an error, and is still moving."""
    torch.manual_seed(0)
    module = tanh_net(5, n_hidden, n_outputs)
    loss = nn.CrossEntropyLoss(weight=weight)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(module(torch.tensor(X)), torch.tensor(y)).backward()
        optimizer.step()
    return module, loss


def gradients(module, y=Y):
    """Gradient of each row's loss, one backward pass a row."""
    rows = []
    for x, label in zip(torch.tensor(X), torch.tensor(y), strict=True):
        module.zero_grad()
        nn.functional.cross_entropy(module(x[None]), label[None]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in module.parameters()]))
    return torch.stack(rows).numpy()


def gauss_newton(module):
    """Mean over rows of ``Jᵀ (diag(p) - p pᵀ) J``."""
    parameters = list(module.parameters())
    total = 0.0
    for x in torch.tensor(X):
        outputs = module(x[None])[0]
        jacobian = torch.stack(
            [
                torch.cat(
                    [g.flatten() for g in torch.autograd.grad(o, parameters, retain_graph=True)]
                )
                for o in outputs
            ]
        )
        p = outputs.softmax(0).detach()
        total = total + jacobian.T @ (p.diag() - p[:, None] * p) @ jacobian
    return (total / len(X)).numpy()


def damping_of(eigenvalues, dimension):
    def excess(log_damping):
        return (eigenvalues / (eigenvalues + np.exp(log_damping))).sum() - dimension

    return np.exp(brentq(excess, -40, 10))


@pytest.mark.parametrize("n_outputs", [2, 3])
def test_effective_dimension_is_a_third_of_the_effective_sample_size(n_outputs):
    y = Y if n_outputs == 2 else np.digitize(X[:, 0], [-0.4, 0.4])
    module, loss = stopped(n_outputs, y=y)
    influence = InfluenceFunction().fit(as_task(module, loss=loss), X, y)
    norms = np.linalg.norm(gradients(module, y), axis=1)
    rows = norms.sum() ** 2 / (norms**2).sum()
    eigenvalues = np.linalg.eigvalsh(gauss_newton(module)).clip(0)
    expected = damping_of(eigenvalues, rows * (n_outputs - 1) / 3)
    assert influence.gradient_ratio_ > AT_OPTIMUM
    assert influence.damping_ == pytest.approx(expected, rel=2e-3)
    assert expected > 1.5 * auto_damping(influence.curvature_)


@NOT_TRAINED
def test_rows_of_weight_zero_do_not_count():
    weight = torch.tensor([1.0, 0.0]).double()
    module, _ = stopped()
    task = as_task(module, loss=nn.CrossEntropyLoss(weight=weight))
    influence = InfluenceFunction("fisher").fit(task, X, Y)
    rows = gradients(module)[Y == 0]
    norms = np.linalg.norm(rows, axis=1)
    count = norms.sum() ** 2 / (norms**2).sum()
    eigenvalues = np.linalg.eigvalsh(rows.T @ rows / len(rows)).clip(0)
    expected = max(damping_of(eigenvalues, count / 6), auto_damping(influence.curvature_))
    assert influence.damping_ == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("curvature", ["ggn", "fisher"])
def test_a_model_at_its_optimum_is_left_to_the_spectrum(curvature):
    model = LogisticRegression(C=100.0, max_iter=5000, tol=1e-8).fit(X, Y)
    as_a_net = replace(as_task(model), convex=False)
    influence = InfluenceFunction(curvature).fit(as_a_net, X, Y)
    assert influence.gradient_ratio_ < AT_OPTIMUM
    assert influence.damping_ == auto_damping(influence.curvature_)


@NOT_TRAINED
def test_a_regression_is_left_to_the_spectrum():
    module = nn.Linear(5, 1).double()
    influence = InfluenceFunction("fisher").fit(as_task(module, loss=nn.MSELoss()), X, X[:, :1])
    assert influence.gradient_ratio_ > AT_OPTIMUM
    assert influence.damping_ == auto_damping(influence.curvature_)


@NOT_TRAINED
@pytest.mark.parametrize(
    ("curvature", "share"),
    [("ggn", 1 / 3), ("fisher", 1 / 6), ("kfac", 2 / 3), ("ekfac", 2 / 3), ("logra", 2 / 3)],
)
def test_share_of_the_effective_sample_size(curvature, share):
    module, loss = stopped()
    influence = InfluenceFunction(curvature).fit(as_task(module, loss=loss), X, Y)
    norms = np.linalg.norm(gradients(module), axis=1)
    rows = norms.sum() ** 2 / (norms**2).sum()
    found = supported_dimension(make_curvature(curvature), influence.curvature_)
    assert found == pytest.approx(share * rows, rel=1e-5)


def test_effective_rows():
    assert effective_sample_size(np.ones(7)) == pytest.approx(7)
    assert effective_sample_size(np.r_[np.zeros(5), 3.0]) == pytest.approx(1)
    assert effective_sample_size(np.zeros(3)) == 0
