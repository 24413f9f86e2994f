"""``criterion="auto"``: the indicator's λ as far as the training rows support it."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

from influencekit import InfluenceFunction, SurrogateLambdaSearchCV, as_task
from influencekit.exceptions import LambdaPathWarning
from tests._shared.nets import tanh_net

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
Y = (X[:, 0] + 0.3 * RNG.normal(size=60) > 0).astype(int)


def trained(steps, X=X, y=Y):
    """Net after some full-batch steps: many leave few rows with a gradient."""
    torch.manual_seed(0)
    module = tanh_net(X.shape[1], 8, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.tensor(X)), torch.tensor(y)).backward()
        optimizer.step()
    return as_task(module, loss=nn.CrossEntropyLoss())


def loss_gradients(task, X=X, y=Y):
    module, rows = task.module, []
    for x, label in zip(torch.tensor(X), torch.tensor(y), strict=True):
        module.zero_grad()
        nn.functional.cross_entropy(module(x[None]), label[None]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in module.parameters()]))
    return torch.stack(rows).numpy()


def search(task, criterion, **options):
    new = SurrogateLambdaSearchCV(
        InfluenceFunction("fisher"), criterion=criterion, random_state=0, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return new.fit(task, X, Y)


def expected_ratio(task, damping):
    """Directions that count at λ over a sixth of the rows with a gradient, in numpy."""
    gradients = loss_gradients(task)
    norms = np.linalg.norm(gradients, axis=1)
    n_rows = norms.sum() ** 2 / (norms**2).sum()
    eigenvalues = np.linalg.eigvalsh(gradients.T @ gradients / len(X)).clip(0)
    return (eigenvalues / (eigenvalues + damping)).sum() / (n_rows / 6)


@pytest.mark.parametrize("steps", [3, 150])
def test_ratio_is_the_dimension_over_what_the_rows_support(steps):
    task = trained(steps)
    found = search(task, "xi")
    expected = expected_ratio(task, found.best_params_["damping"])
    assert found.dimension_ratio_ == pytest.approx(expected, rel=1e-5)


def test_unsupported_picks_leave_the_own_damping_and_say_so():
    task = trained(150)
    xi, auto = search(task, "xi"), search(task, "auto")
    own = InfluenceFunction("fisher").fit(task, X, Y).damping_
    assert xi.dimension_ratio_ > 1
    assert auto.best_params_["damping"] == pytest.approx(own)
    with pytest.warns(LambdaPathWarning, match="times what the training rows.*criterion='auto'"):
        SurrogateLambdaSearchCV(InfluenceFunction("fisher"), criterion="xi").fit(task, X, Y)


def test_supported_picks_meet_the_own_damping_half_way():
    rng = np.random.default_rng(1)
    many = rng.normal(size=(400, 2))
    labels = (many[:, 0] + rng.normal(size=400) > 0).astype(int)
    task = trained(3, many, labels)
    options = {"dampings": np.geomspace(1e-3, 10, 30), "random_state": 0}
    attributor = InfluenceFunction("ggn")
    xi = SurrogateLambdaSearchCV(attributor, criterion="xi", **options).fit(task, many, labels)
    auto = SurrogateLambdaSearchCV(attributor, **options).fit(task, many, labels)
    own = InfluenceFunction("ggn").fit(task, many, labels).damping_
    assert auto.dimension_ratio_ == xi.dimension_ratio_ <= 1
    assert auto.best_params_["damping"] == pytest.approx((own * xi.best_params_["damping"]) ** 0.5)
    row = auto.cv_results_["params"][auto.best_index_]
    assert row == auto.best_params_
    assert auto.best_attributor_.damping_ == row["damping"]


@pytest.mark.parametrize("kind", ["least squares", "logistic"])
def test_at_a_convex_optimum_nothing_is_added(kind):
    if kind == "logistic":
        model, y = LogisticRegression(C=100, tol=1e-10, max_iter=5000).fit(X, Y), Y
        data = X
    else:
        data, y = load_diabetes(return_X_y=True)
        model = LinearRegression().fit(data, y)
    auto = SurrogateLambdaSearchCV(InfluenceFunction(), random_state=0).fit(model, data, y)
    plain = InfluenceFunction().fit(model, data, y)
    assert auto.best_params_["damping"] == 0
    np.testing.assert_allclose(auto.score(data[:5], y[:5]), plain.score(data[:5], y[:5]))
    with pytest.warns(LambdaPathWarning, match="convex objective.*criterion='auto'"):
        SurrogateLambdaSearchCV(InfluenceFunction(), criterion="xi").fit(model, data, y)
