"""TRAK and TracIn against their formulas, written out densely in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from influencekit import TRAK, GradDot, InfluenceFunction, SurrogateLambdaSearchCV, TracIn, as_task
from influencekit.exceptions import HeldOutRowsWarning
from tests._shared.marks import NOT_TRAINED
from tests._shared.problems import draw_examples, tanh_task
from tests._shared.tables import split
from tests.curvature._dense_reference import loss_gradients, output_gradients

N, M, D = 20, 5, 4


def margin(outputs, targets):
    picked = outputs.gather(1, targets[:, None])[:, 0]
    others = outputs.masked_fill(
        nn.functional.one_hot(targets, outputs.shape[1]).bool(), -torch.inf
    )
    return picked - others.logsumexp(1)


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    tasks = [tanh_task(D, 5, 3) for _ in range(2)]
    return tasks, *split(*draw_examples(N + M, D, 3), N)


def kernel_and_q(task, X, t, Xq, tq, damping):
    """φ_i (ΦᵀΦ/n + λ)⁻¹ φ_j / n and 1 - p_j of one model."""
    phi, query = output_gradients(task, X, t, margin), output_gradients(task, Xq, tq, margin)
    gram = phi.T @ phi / len(X) + damping * np.eye(phi.shape[1])
    p = task.forward(X).softmax(1).gather(1, t[:, None])[:, 0].detach().numpy()
    return query @ np.linalg.solve(gram, phi.T) / len(X), 1 - p


@pytest.mark.parametrize("damping", [1e-2, 3.0])
def test_one_model(problem, damping):
    tasks, X, t, Xq, tq = problem
    kernel, q = kernel_and_q(tasks[0], X, t, Xq, tq, damping)
    trak = TRAK(damping, projection_dim=None).fit(tasks[0], X, t)
    np.testing.assert_allclose(trak.score(Xq, tq), kernel * q, rtol=1e-8)
    g, phi = loss_gradients(tasks[0], X, t), output_gradients(tasks[0], X, t, margin)
    gram = phi.T @ phi / N + damping * np.eye(phi.shape[1])
    own = np.einsum("ij,ij->i", g, np.linalg.solve(gram, g.T).T) / N
    np.testing.assert_allclose(trak.self_influence(), own, rtol=1e-8)


def test_several_models_average_kernel_and_q_apart(problem):
    tasks, X, t, Xq, tq = problem
    kernels, qs = zip(*(kernel_and_q(task, X, t, Xq, tq, 0.1) for task in tasks), strict=True)
    expected = np.mean(kernels, axis=0) * np.mean(qs, axis=0)
    trak = TRAK(0.1, projection_dim=None).fit(tasks, X, t)
    np.testing.assert_allclose(trak.score(Xq, tq), expected, rtol=1e-8)
    masks = np.random.RandomState(0).rand(4, N) < 0.5
    sums = trak.damping_path(Xq, tq).subset_sums(masks).at(0.1)
    np.testing.assert_allclose(sums, expected @ masks.T, rtol=1e-8)
    top, values = trak.top_k(Xq, tq, k=1)
    np.testing.assert_array_equal(top[:, 0], expected.argmax(1))
    np.testing.assert_allclose(values[:, 0], expected.max(1), rtol=1e-8)


def test_a_row_that_one_model_learned_from_has_its_own_q(problem):
    tasks, X, t, Xq, tq = problem
    held_out = replace(tasks[1], training_rows=lambda rows, _: rows[:, 0] >= 5)
    with pytest.warns(HeldOutRowsWarning):
        both = TRAK(0.1, projection_dim=None).fit([tasks[0], held_out], X, t)
    alone = TRAK(0.1, projection_dim=None).fit(tasks[0], X, t).score(Xq, tq)
    np.testing.assert_allclose(both.score(Xq, tq)[:, :5], alone[:, :5] / 2, rtol=1e-8)


def test_damping_is_chosen_without_retraining(problem):
    tasks, X, t, Xq, tq = problem
    search = SurrogateLambdaSearchCV(TRAK(projection_dim=None), np.geomspace(1e-4, 10, 11))
    search.fit(tasks, X, t, X_query=Xq, y_query=tq)
    fresh = TRAK(search.best_params_["damping"], projection_dim=None).fit(tasks, X, t)
    np.testing.assert_allclose(search.score(Xq, tq), fresh.score(Xq, tq))


def test_regression_is_the_influence_function_of_least_squares():
    """For squared error, ∇f is the row of the Gauss-Newton matrix, and q the residual."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(30, 3), rng.randn(30)
    model = Ridge(alpha=1e-9).fit(X, y)
    influence = InfluenceFunction("ggn", 0.2, output="prediction").fit(model, X, y)
    scale = float(as_task(model).loss.hessian_factor(torch.zeros(1, 1), torch.zeros(1, 1)).factor)
    trak = TRAK(0.2 / scale**2, projection_dim=None, output="prediction").fit(model, X, y)
    found = trak.score(X[:4], y[:4])
    np.testing.assert_allclose(found, influence.score(X[:4], y[:4]) * scale**2, rtol=1e-6)


@NOT_TRAINED
def test_regressors_with_several_outputs_are_linear_in_the_loss():
    """The negative loss is linearized: its slope is -1, the kernel the empirical Fisher matrix."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(N, D)), rng.normal(size=(N, 2))
    task = as_task(nn.Linear(D, 2).double(), loss=nn.MSELoss())
    expected = InfluenceFunction("fisher", 0.1).fit(task, X, Y).score(X[:3], Y[:3])
    trak = TRAK(0.1, projection_dim=None).fit(task, X, Y)
    np.testing.assert_allclose(trak.score(X[:3], Y[:3]), expected, rtol=1e-8)
    with pytest.raises(ValueError, match="is one number for each example"):
        trak.score(X[:3])


def test_regressors_explain_the_loss_where_targets_are_given():
    rng = np.random.RandomState(0)
    X, y = rng.randn(30, 3), rng.randn(30)
    model = Ridge(alpha=1e-9).fit(X, y)
    trak = TRAK(0.2, projection_dim=None).fit(model, X, y)
    of_prediction = TRAK(0.2, projection_dim=None, output="prediction").fit(model, X, y)
    slope = 2 * (model.predict(X[:4]) - y[:4])  # of the squared error
    loss = as_task(model).loss(torch.tensor([[1.0]]), torch.tensor([[0.0]]))
    expected = -of_prediction.score(X[:4], y[:4]) * slope[:, None] * float(loss)
    np.testing.assert_allclose(trak.score(X[:4], y[:4]), expected, rtol=1e-9)
    np.testing.assert_array_equal(trak.score(X[:4]), of_prediction.score(X[:4]))


def test_output_whose_gradient_vanishes_has_no_slope(problem):
    tasks, X, t, Xq, tq = problem

    def flat(outputs, targets):
        return outputs[:, 0] * (targets != 1)

    scores = TRAK(0.1, projection_dim=None, output=flat).fit(tasks[0], X, t).score(Xq, tq)
    assert np.isfinite(scores).all()
    assert (scores[:, (t == 1).numpy()] == 0).all()


class TestTracIn:
    """Sums of GradDot over checkpoints."""

    def test_sum_over_checkpoints_with_their_rates(self, problem):
        tasks, X, t, Xq, tq = problem
        rates = [0.3, 0.05]
        expected = -sum(
            rate
            * output_gradients(task, Xq, tq, lambda o, y, task=task: -task.loss(o, y))
            @ loss_gradients(task, X, t).T
            for rate, task in zip(rates, tasks, strict=True)
        )
        tracin = TracIn(rates).fit(tasks, X, t)
        np.testing.assert_allclose(tracin.score(Xq, tq), expected, rtol=1e-9)
        own = sum(
            rate * (loss_gradients(task, X, t) ** 2).sum(1)
            for rate, task in zip(rates, tasks, strict=True)
        )
        np.testing.assert_allclose(tracin.self_influence(), own, rtol=1e-9)

    def test_one_rate_for_all(self, problem):
        tasks, X, t, Xq, tq = problem
        each = [GradDot().fit(task, X, t).score(Xq, tq) for task in tasks]
        np.testing.assert_allclose(TracIn().fit(tasks, X, t).score(Xq, tq), sum(each), rtol=1e-9)
        one = TracIn(0.5).fit(tasks[0], X, t).score(Xq, tq)
        np.testing.assert_allclose(one, 0.5 * each[0], rtol=1e-9)

    @pytest.mark.parametrize("rates", [[0.1], [0.1, np.nan], [[0.1, 0.2]]])
    def test_rates_must_be_one_for_each_checkpoint(self, problem, rates):
        tasks, X, t, _, _ = problem
        with pytest.raises(ValueError, match=r"learning_rates: got .* for 2 checkpoints"):
            TracIn(rates).fit(tasks, X, t)
