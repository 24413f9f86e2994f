"""Influence functions for a stated amount of further training."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from skorch import NeuralNetRegressor
from torch import nn

from influencekit import FurtherTraining, InfluenceFunction, as_task
from influencekit.attributors.influence._predicted_endpoint import (
    ShiftedOutputs,
    apply_filter,
    descent_filter,
    predicted_task,
)
from influencekit.curvature import CURVATURES, DataInf
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from tests._shared.attributors import further_training
from tests._shared.problems import draw_examples, tanh_task
from tests.curvature._dense_reference import flat_gradient, gauss_newton, loss_gradients

pytestmark = pytest.mark.filterwarnings(
    "ignore::influencekit.exceptions.NotStationaryWarning"  # what this file is about
)
N, D = 24, 3
PLAIN = {"optimizer": "sgd", "batch_size": N, "n_repeats": 1, "random_state": 0}


@pytest.fixture(scope="module")
def line():
    """Least squares, where gradient descent is known in closed form."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(N + 6, D), rng.randn(N + 6)
    net = nn.Linear(D, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -0.5, 2.0]]))
        net.bias.fill_(0.3)
    return net, X[:N], y[:N, None], X[N:], y[N:, None]


def descend(net, X, y, rate, n_steps):
    """Full-batch gradient descent by autograd."""
    net = copy.deepcopy(net)
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    for _ in range(n_steps):
        loss = nn.functional.mse_loss(net(X), y)
        for p, g in zip(net.parameters(), torch.autograd.grad(loss, net.parameters()), strict=True):
            p.data -= rate * g
    return net


def fit(model, X, y, task=None, **params):
    return InfluenceFunction("ggn", **params).fit(task or as_task(model, nn.MSELoss()), X, y)


@pytest.mark.parametrize("n_steps", [1, 7, 400])
def test_predicted_endpoint_of_least_squares_is_gradient_descent(line, n_steps):
    net, X, y, Xq, yq = line
    further = further_training(lr=0.05, n_steps=n_steps, **PLAIN)
    options = {"damping": "matched", "further_training": further}
    predicted = fit(net, X, y, at="predicted", **options).score(Xq, yq)
    moved = descend(net, X, y, 0.05, n_steps)
    by_hand = fit(moved, X, y, damping=1 / (0.05 * n_steps)).score(Xq, yq)
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-8)
    at_end = fit(net, X, y, at="endpoint", **options).score(Xq, yq)
    np.testing.assert_allclose(at_end, by_hand, rtol=1e-8)


@pytest.mark.parametrize("n_steps", [1, 7])
def test_corrected_is_the_proposition_for_training_gradients_only(line, n_steps):
    """``-<∇f(θ), (A + λI)⁻¹ [∇loss_j + ∇²loss_j Δ]> / n``, written out for least squares."""
    net, X, y, Xq, yq = line
    moved = descend(net, X, y, 0.05, n_steps)

    def pieces(inputs):
        return np.hstack([inputs, np.ones((len(inputs), 1))])  # ∂output/∂θ

    def vector(module):
        return np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])

    A, Q, start = pieces(X), pieces(Xq), vector(net)
    step = vector(moved) - start
    gradients = 2 * A * (A @ start - y[:, 0])[:, None]  # of (output - y)²
    corrected = gradients + 2 * A * (A @ step)[:, None]  # ∇²loss_j Δ
    curvature = 2 * A.T @ A / N + np.eye(D + 1) / (0.05 * n_steps)
    of_output = -2 * Q * (Q @ start - yq[:, 0])[:, None]  # of minus the loss
    expected = -of_output @ np.linalg.solve(curvature, corrected.T) / N
    further = further_training(lr=0.05, n_steps=n_steps, **PLAIN)
    found = fit(net, X, y, at="corrected", damping="matched", further_training=further)
    np.testing.assert_allclose(found.score(Xq, yq), expected, rtol=1e-8)
    predicted = fit(net, X, y, at="predicted", damping="matched", further_training=further)
    assert np.abs(predicted.score(Xq, yq) - expected).max() > 1e-3 * np.abs(expected).max()


def test_matched_damping(line):
    net, X, y, _, _ = line
    further = further_training(lr=0.02, epochs=3, **PLAIN | {"batch_size": 10})
    steps = 9  # three batches an epoch
    found = fit(net, X, y, damping="matched", further_training=further)
    assert found.damping_ == pytest.approx(1 / (0.02 * steps))
    further.set_params(training__momentum=0.9)
    assert found.set_damping("matched").damping_ == pytest.approx(0.1 / (0.02 * steps))


def test_skorch_net_brings_its_own_training(line):
    _, X, y, _, _ = line
    net = NeuralNetRegressor(
        nn.Linear(D, 1).double(),
        lr=0.01,
        max_epochs=5,
        batch_size=12,
        optimizer__momentum=0.5,
        train_split=None,
        verbose=0,
    ).fit(X, y)
    found = InfluenceFunction("ggn", "matched").fit(net, X, y)
    assert found.damping_ == pytest.approx(0.5 / (0.01 * 5 * 2))


def test_momentum_multiplies_the_predicted_steps(line):
    net, X, y, Xq, yq = line
    scores = [
        fit(net, X, y, damping=0.1, at="predicted", further_training=further).score(Xq, yq)
        for further in (
            further_training(lr=0.01, momentum=0.75, n_steps=8, **PLAIN),
            further_training(lr=0.04, n_steps=8, **PLAIN),
        )
    ]
    np.testing.assert_allclose(*scores)


def test_adam_is_refused_with_a_reason(line):
    net, X, y, _, _ = line
    further = FurtherTraining("adam", lr=0.01, n_steps=3)
    for options in ({"damping": "matched"}, {"damping": 0.1, "at": "predicted"}):
        with pytest.raises(ValueError, match="uses Adam, which scales each parameter's step"):
            fit(net, X, y, further_training=further, **options)
    fit(net, X, y, damping=0.1, at="endpoint", further_training=further)


def test_without_any_learning_rate_the_model_is_refused():
    X, y = np.random.RandomState(0).randn(2, 20, 2)
    with pytest.raises(ValueError, match="further_training: got None, and Ridge"):
        InfluenceFunction("ggn", "matched").fit(Ridge().fit(X, y[:, 0]), X, y[:, 0])


class TestNonlinearModel:
    """Dense float64 references of the moved outputs and their gradients."""

    def problem(self, penalty=0.0):
        torch.manual_seed(0)
        task = tanh_task(D, 4, 3)
        if penalty:
            strength = {name: torch.tensor(penalty) for name in task.parameters}
            task = replace(task, penalty=strength)
        return task, *draw_examples(N, D, 3)

    def test_gradients_are_those_of_moved_outputs(self):
        task, X, t = self.problem()
        direction = torch.randn(task.n_parameters, dtype=torch.float64)
        moved = replace(task, module=ShiftedOutputs(task, direction))
        engine, examples = GradientEngine(moved), make_examples(moved, X, t)
        found = Gradients(engine, examples, loss_cotangent(moved)).matrix().numpy()
        outputs = task.forward(X)
        for i in range(N):
            jacobian = np.stack([flat_gradient(o, task) for o in outputs[i]])
            z = outputs[i].detach() + torch.as_tensor(jacobian @ direction.numpy())
            residual = z.softmax(0) - nn.functional.one_hot(t[i], 3)
            np.testing.assert_allclose(found[i], jacobian.T @ residual.numpy(), rtol=1e-9)

    @pytest.mark.parametrize("penalty", [0.0, 0.05])
    def test_change_is_the_filtered_gradient(self, penalty):
        task, X, t = self.problem(penalty)
        shares = torch.full((N,), 1 / N, dtype=torch.float64)
        further = further_training(lr=0.3, n_steps=25, **PLAIN)
        vector = task.penalty_vector(N)
        engine, train = GradientEngine(task), make_examples(task, X, t)
        config = further.resolve(task, N)
        found = predicted_task(engine, train, shares, vector, config).module.direction
        found = torch.cat([part.reshape(-1) for part in found.values()]).numpy()
        matrix = gauss_newton(task, X, t, shares.numpy()) + np.diag(vector.numpy())
        start = torch.cat([p.detach().reshape(-1) for p in task.parameters.values()]).numpy()
        gradient = loss_gradients(task, X, t).mean(0) + vector.numpy() * start
        change = np.zeros(len(start))
        for _ in range(25):
            change -= 0.3 * (gradient + matrix @ change)
        np.testing.assert_allclose(found, change, rtol=1e-6, atol=1e-9)


def dense_moved(task, X, t, Xq, tq, change, damping):
    """-v (Jᵀ H J / n + λ)⁻¹ g / n with H, v and g at the moved outputs, J at the fitted model."""

    def parts(inputs):
        outputs = task.forward(inputs)
        jacobians = np.stack([[flat_gradient(o, task) for o in row] for row in outputs])
        return jacobians, outputs.detach().numpy() + jacobians @ change

    def residuals(p, targets):
        return p - np.eye(3)[targets]

    (J, z), (Jq, zq) = parts(X), parts(Xq)
    p, pq = (torch.softmax(torch.as_tensor(outputs), 1).numpy() for outputs in (z, zq))
    H = np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)
    matrix = np.einsum("ncp,ncd,ndq->pq", J, H, J) / len(X)
    g = np.einsum("ncp,nc->np", J, residuals(p, t))
    v = -np.einsum("ncp,nc->np", Jq, residuals(pq, tq))
    return -v @ np.linalg.solve(matrix + damping * np.eye(len(matrix)), g.T) / len(X)


@pytest.fixture(scope="module")
def moved():
    task, X, t = TestNonlinearModel().problem()
    further = further_training(lr=0.3, n_steps=25, **PLAIN)
    return task, X, t, further


class TestEveryCurvature:
    @pytest.mark.parametrize(
        ("curvature", "rtol"),
        [("ggn", 1e-8), ("cg", 1e-4), ("arnoldi", 1e-6), ("nystroem", 1e-6), ("lissa", 0.02)],
    )
    def test_gauss_newton_matrices_at_the_predicted_end(self, moved, curvature, rtol):
        task, X, t, further = moved
        options = {"at": "predicted", "further_training": further, "random_state": 0}
        fitted = InfluenceFunction(curvature, 0.1, **options).fit(task, X, t)
        shares = torch.full((N,), 1 / N, dtype=torch.float64)
        end = predicted_task(
            GradientEngine(task),
            make_examples(task, X, t),
            shares,
            task.penalty_vector(N),
            further.resolve(task, N),
        )
        change = torch.cat([part.reshape(-1) for part in end.module.direction.values()]).numpy()
        expected = dense_moved(task, X, t, X[:4], t[:4], change, 0.1)
        np.testing.assert_allclose(
            fitted.score(X[:4], t[:4]), expected, rtol=0, atol=rtol * np.abs(expected).max()
        )

    @pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning")
    @pytest.mark.parametrize("curvature", CURVATURES)
    def test_endpoint_is_a_fit_at_the_end(self, moved, curvature):
        task, X, t, further = moved
        options = {"further_training": further, "random_state": 0}
        found = InfluenceFunction(curvature, "matched", at="endpoint", **options).fit(task, X, t)
        end = further.endpoint_of(task, make_examples(task, X, t))
        alone = InfluenceFunction(curvature, 1 / (0.3 * 25), random_state=0).fit(end, X, t)
        np.testing.assert_array_equal(found.score(X[:4], t[:4]), alone.score(X[:4], t[:4]))
        predicted = InfluenceFunction(curvature, "matched", at="predicted", **options)
        near = predicted.fit(task, X, t).score(X[:4], t[:4])
        plain = InfluenceFunction(curvature, 1 / (0.3 * 25), random_state=0).fit(task, X, t)
        far, end = plain.score(X[:4], t[:4]), found.score(X[:4], t[:4])
        assert np.linalg.norm(near - end) < 0.6 * np.linalg.norm(far - end)


def test_filter_of_a_matrix():
    torch.manual_seed(0)
    factor = torch.randn(30, 12, dtype=torch.float64)
    matrix, vector = factor @ factor.mT, torch.randn(30, dtype=torch.float64)
    values, basis = torch.linalg.eigh(matrix)
    expected = basis @ (torch.exp(-values) * (basis.mT @ vector))
    found = apply_filter(lambda v: v @ matrix, vector, lambda s: torch.exp(-s))
    torch.testing.assert_close(found, expected)
    few = apply_filter(lambda v: v @ matrix, vector, lambda s: 1 / (s + 40.0), n_directions=13)
    torch.testing.assert_close(few, torch.linalg.solve(matrix + 40.0 * torch.eye(30), vector))
    assert (apply_filter(lambda v: v, torch.zeros(3).double(), lambda s: s) == 0).all()


def test_descent_filter_sums_the_steps():
    curvature = torch.tensor([0.0, 1e-9, 0.4, 3.0, 19.0], dtype=torch.float64)
    found = descent_filter(0.1, 17)(curvature)
    expected = sum(0.1 * (1 - 0.1 * curvature) ** k for k in range(17))
    torch.testing.assert_close(found, expected)
    beyond = descent_filter(0.1, 17)(torch.tensor([30.0], dtype=torch.float64))
    assert beyond.item() == pytest.approx(2 / 30)  # back and forth, not to infinity


def test_a_relative_damping_has_no_match(line):
    net, X, y, _, _ = line
    further = further_training(lr=0.01, n_steps=3, **PLAIN)
    relative = InfluenceFunction(DataInf(scaled=True), "matched", further_training=further)
    with pytest.raises(ValueError, match=r"damping='matched': the damping of DataInf"):
        relative.fit(as_task(net, nn.MSELoss()), X, y)


@pytest.mark.parametrize("lr", [1e3, 1e30])
def test_diverging_descent_has_no_end_to_predict(line, lr):
    net, X, y, *_ = line
    further = further_training(lr=lr, n_steps=4, **PLAIN)
    with pytest.raises(ValueError, match="diverge along the largest curvature"):
        fit(net, X, y, at="predicted", further_training=further, damping=0.1)
