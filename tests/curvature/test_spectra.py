"""Spectra against dense float64 curvatures, in every space and with every kind of penalty."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import as_task
from influencekit.curvature import CurvatureProblem
from influencekit.curvature._problem import fisher_rows, ggn_rows
from influencekit.curvature.exact._exact import decompose_parameters, decompose_projected
from influencekit.curvature.exact._sample_space import decompose_samples
from influencekit.damping._default import damping_range
from influencekit.data import make_examples
from influencekit.gradients import (
    GradientEngine,
    Gradients,
    loss_cotangent,
    make_projection,
    output_cotangent,
)
from tests._shared.nets import tanh_net
from tests._shared.problems import draw_examples, draw_parameters
from tests._shared.tables import split
from tests.curvature._dense_reference import (
    gauss_newton,
    loss_gradients,
    output_gradients,
    scores,
    surrogate_indicator,
)

N, M, D = 25, 6, 4


def problem(seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    net = draw_parameters(tanh_net(D, 5, classes), generator)
    X, t = draw_examples(N + M, D, classes, generator)
    return as_task(net, loss=nn.CrossEntropyLoss()), *split(X, t, N)


def penalties(task):
    p = task.n_parameters
    bias = torch.zeros(p, dtype=torch.float64)
    bias[: p - 3] = 0.1
    mixed = torch.linspace(0.0, 0.3, p, dtype=torch.float64)
    return {
        "none": torch.zeros(p, dtype=torch.float64),
        "constant": torch.full((p,), 0.2, dtype=torch.float64),
        "bias free": bias,
        "all different": mixed,
    }


def margin(outputs, targets):
    return outputs.gather(1, targets[:, None])[:, 0] * 2.0


def of_margin(task, queries, output=margin):
    """Gradients of the margin of queries."""
    return Gradients(GradientEngine(task), queries, output_cotangent(output))


ROWS = {"fisher": fisher_rows, "ggn": ggn_rows}


def rows_of(curvature, task, X, t, weights, penalty=None):
    """Rows of a curvature over some examples, with their problem."""
    penalty = penalties(task)["none"] if penalty is None else penalty
    train = make_examples(task, X, t)
    weights = torch.as_tensor(weights)
    return ROWS[curvature](
        CurvatureProblem(
            Gradients(GradientEngine(task), train, loss_cotangent(task)), weights, penalty
        )
    )


@pytest.mark.parametrize("penalty_name", ["none", "constant", "bias free", "all different"])
@pytest.mark.parametrize("space", [decompose_parameters, decompose_samples])
@pytest.mark.parametrize("curvature", ["fisher", "ggn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_and_xi_equal_dense(curvature, space, penalty_name, weighted):
    task, X, t, Xq, tq = problem()
    penalty = penalties(task)[penalty_name]
    weights = np.random.RandomState(0).uniform(0.5, 2, N) if weighted else np.ones(N)
    weights = weights / weights.sum()
    queries = make_examples(task, Xq, tq)
    spectrum = space(rows_of(curvature, task, X, t, weights, penalty))
    path = spectrum.path(of_margin(task, queries))

    g, q = loss_gradients(task, X, t), output_gradients(task, Xq, tq, margin)
    data = gauss_newton(task, X, t, weights) if curvature == "ggn" else (g.T * weights) @ g
    for damping in (1e-2, 1.0, 30.0):
        dense = data + np.diag(penalty.numpy()) + damping * np.eye(len(penalty))
        expected = scores(q, dense, g, weights)
        np.testing.assert_allclose(path.scores(damping), expected, rtol=1e-8, atol=1e-12)
        masks = np.random.RandomState(1).rand(7, N) < 0.5
        np.testing.assert_allclose(
            path.subset_sums(masks).at(damping), expected @ masks.T, rtol=1e-8, atol=1e-12
        )
        if penalty_name in ("none", "constant"):  # penalty and data curvature commute
            xi = surrogate_indicator(q, data, np.linalg.inv(dense))
            np.testing.assert_allclose(path.xi([damping])[0], xi, rtol=1e-7)


@pytest.mark.parametrize("space", [decompose_parameters, decompose_samples])
def test_without_damping_a_singular_curvature_is_pseudo_inverted(space):
    task, X, t, Xq, tq = problem()
    weights = np.full(N, 1 / N)
    spectrum = space(rows_of("fisher", task, X, t, weights))
    found = spectrum.path(of_margin(task, make_examples(task, Xq, tq))).scores(0.0)
    g, q = loss_gradients(task, X, t), output_gradients(task, Xq, tq, margin)
    assert task.n_parameters > N  # so that the curvature is singular
    expected = -q @ np.linalg.pinv(g.T @ g / N) @ g.T / N
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_projected_spectrum_equals_dense_projection():
    task, X, t, Xq, tq = problem()
    engine, weights = GradientEngine(task), np.full(N, 1 / N)
    train, queries = make_examples(task, X, t), make_examples(task, Xq, tq)
    sketch = make_projection(engine, 11, projection="gaussian", random_state=3)
    penalty = penalties(task)["constant"]
    rows = rows_of("ggn", task, X, t, weights, penalty)
    spectrum = decompose_projected(rows, sketch)
    found = spectrum.path(of_margin(task, queries)).scores(0.3)
    b = rows.rows.project(sketch).numpy()
    g = Gradients(engine, train, loss_cotangent(task)).project(sketch).numpy()
    q = of_margin(task, queries).project(sketch).numpy()
    dense = b.T @ b / N + (0.2 + 0.3) * np.eye(11)
    np.testing.assert_allclose(found, scores(q, dense, g, weights), rtol=1e-8, atol=1e-12)


class TestIndicatorLaws:
    """Laws of ξ, on random spectra."""

    def path(self, scale=1.0, query_scale=1.0, seed=0):
        task, X, t, Xq, tq = problem(seed)
        weights = torch.full((N,), scale / N, dtype=torch.float64)
        spectrum = decompose_samples(rows_of("fisher", task, X, t, weights))

        def output(outputs, targets):
            return query_scale * margin(outputs, targets)

        return spectrum.path(of_margin(task, make_examples(task, Xq, tq), output))

    def test_between_zero_and_one_and_rising_to_one(self):
        xi = self.path().xi(np.geomspace(1e-9, 1e9, 60))
        assert (xi > 0).all()
        assert (xi <= 1 + 1e-12).all()
        assert (xi[-1] > 1 - 1e-6).all()
        assert (xi[0] < 0.5).all()

    def test_scale_of_the_query_cancels(self):
        dampings = np.geomspace(1e-4, 10, 9)
        np.testing.assert_allclose(
            self.path(query_scale=-7.0).xi(dampings), self.path().xi(dampings)
        )

    def test_joint_scaling_of_curvature_and_damping_cancels(self):
        dampings = np.geomspace(1e-4, 10, 9)
        scaled = self.path(scale=100.0).xi(100.0 * dampings)
        np.testing.assert_allclose(scaled, self.path().xi(dampings), rtol=1e-9)

    def test_one_where_all_eigenvalues_are_equal(self):
        path = self.path()
        path.spectrum.eigenvalues = torch.full_like(path.spectrum.eigenvalues, 0.3)
        path.spectrum.data_eigenvalues = path.spectrum.eigenvalues
        np.testing.assert_allclose(path.xi([1e-6, 1.0]), 1.0, rtol=1e-12)

    def test_no_underflow_at_extreme_dampings(self):
        xi = self.path().xi([1e150])
        np.testing.assert_allclose(xi, 1.0)

    def test_query_without_gradient_is_undefined(self):
        path = self.path()
        path.query_coordinates[2] = 0.0
        xi = path.xi([0.1])
        assert np.isnan(xi[0, 2])
        assert np.isfinite(np.delete(xi[0], 2)).all()


def test_damping_range_of_a_vanishing_curvature_is_refused():
    with pytest.raises(ValueError, match="curvature of the model on its training data is zero"):
        damping_range(np.zeros(4))


@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-6), (1e-4, 1e-3)])
def test_short_rows_are_not_dropped_beside_long_ones(scale, tolerance):
    """Rows of very different length, and an unpenalized bias: both spaces agree."""
    task, X, t, Xq, tq = problem()
    with torch.no_grad():
        task.parameters["2.weight"].mul_(40)  # saturated: most gradients are tiny
    weights = torch.full((N,), 1 / N, dtype=torch.float64)
    rows = rows_of("fisher", task, X * scale, t, weights, penalties(task)["bias free"])
    queries = make_examples(task, Xq * scale, tq)
    found = []
    for space in (decompose_parameters, decompose_samples):
        found.append(space(rows).path(of_margin(task, queries)).scores(1e-2))
    crumbs = 1e-9 * np.abs(found[0]).max()
    np.testing.assert_allclose(found[1], found[0], rtol=tolerance, atol=crumbs)


def test_masks_of_other_rows_are_refused():
    path = TestIndicatorLaws().path()
    with pytest.raises(ValueError, match=r"masks: got shape \(3, 7\); accepted is"):
        path.subset_sums(np.ones((3, 7)))
