"""Approximate curvatures against dense matrices, and truncated sweeps."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import AdamWInfluence, SGDInfluence
from influencekit.exceptions import InfluenceKitWarning
from tests.training.trajectory._unrolled import occurrence_gradients
from tests.training.trajectory.test_adjoint import N, data, influence_of, make_run, recorded


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


class Dense:
    """Algorithm 1 of arXiv 2605.18814 with (p, 3p) matrices, for a run recorded at every step.

    The curvature of a batch is a dense matrix; shares are fixed.
    """

    def __init__(self, run, trajectory, curvature):
        self.run, self.trajectory, self.curvature = run, trajectory, curvature
        self.names = list(trajectory.snapshots[0].tensors["theta"])

    def state(self, step, slot):
        tensors = self.trajectory.snapshots[step].tensors.get(slot, {})
        theta = self.trajectory.snapshots[step].tensors["theta"]
        return flat([tensors.get(n, torch.zeros_like(theta[n])) for n in self.names])

    def gradients(self, step, X, y):
        """One gradient a row, (n, p)."""
        theta = {n: t.clone() for n, t in self.trajectory.snapshots[step].tensors["theta"].items()}

        def loss(theta, x, t):
            outputs = torch.func.functional_call(self.run.module, theta, (x[None],))
            return self.run.loss(outputs, t[None])

        found = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(theta, X, y)
        return torch.cat([found[n].reshape(len(X), -1) for n in self.names], dim=1)

    def matrix(self, step, rows):
        X, y = self.run.X[rows], self.run.y[rows]
        theta = self.trajectory.snapshots[step].tensors["theta"]
        shapes = [theta[n].shape for n in self.names]

        def unflat(vector):
            parts = vector.split([s.numel() for s in shapes])
            return {n: p.view(s) for n, p, s in zip(self.names, parts, shapes, strict=True)}

        def outputs(vector):
            return torch.func.functional_call(self.run.module, unflat(vector), (X,))

        vector = flat([theta[n] for n in self.names])
        if self.curvature == "fisher":
            own = self.gradients(step, X, y)
            return own.T @ own / len(rows)
        if self.curvature == "ggn":
            J = torch.func.jacrev(outputs)(vector)
            p = outputs(vector).softmax(-1)
            H = torch.diag_embed(p) - p[:, :, None] * p[:, None]
            return torch.einsum("nap,nab,nbq->pq", J, H, J) / len(rows)
        return torch.zeros(len(vector), len(vector), dtype=torch.float64)

    def scores(self, queries, targets):
        run, T = self.run, self.trajectory.n_steps
        options = run.make_optimizer().defaults
        lr, decay, eps = options["lr"], options["weight_decay"], options["eps"]
        b1, b2 = options["betas"]
        W = [-self.gradients(T, queries, targets), 0.0, 0.0]
        found = []
        for step in reversed(range(T)):
            rows, k = run.batches[step], step + 1
            own = self.gradients(step, run.X[rows], run.y[rows]) / len(rows)
            g = own.sum(0)
            m, v = self.state(k, "exp_avg") / (1 - b1**k), self.state(k, "exp_avg_sq") / (1 - b2**k)
            D = 1 / (v.sqrt() + eps)
            S = torch.where(v > 0, m / (2 * v.sqrt() * (v.sqrt() + eps) ** 2), 0.0)
            mdot, vdot = -(1 - b1) * own, -2 * (1 - b2) * g * own
            tdot = -lr * (D * mdot / (1 - b1**k) - S * vdot / (1 - b2**k))
            found.insert(0, -(W[0] @ tdot.T + _at(W[1], mdot) + _at(W[2], vdot)))
            R = (
                -lr * (1 - b1) / (1 - b1**k) * D + 2 * lr * (1 - b2) / (1 - b2**k) * S * g,
                1 - b1,
                2 * (1 - b2) * g,
            )
            bent = sum(w * r for w, r in zip(W, R, strict=True)) @ self.matrix(step, rows)
            W = [
                (1 - lr * decay) * W[0] + bent,
                -lr * b1 / (1 - b1**k) * W[0] * D + b1 * W[1],
                lr * b2 / (1 - b2**k) * W[0] * S + b2 * W[2],
            ]
        return torch.cat(found, dim=1)


def _at(w, vectors):
    return 0.0 if isinstance(w, float) else w @ vectors.T


@pytest.mark.parametrize("curvature", ["fisher", "ggn", "none"])
@pytest.mark.parametrize("variant", ["adamw", "betas"])
def test_published_algorithm_with_dense_matrices(variant, curvature):
    run = make_run(variant)
    _, task, trajectory = recorded(run, every=1)
    queries, targets = data(1, 4)
    expected = Dense(run, trajectory, curvature).scores(queries, targets)
    influence = AdamWInfluence(trajectory, curvature, removal="fixed").fit(task, run.X, run.y)
    found = influence.step_scores(queries, targets).scores
    np.testing.assert_allclose(found, expected, atol=1e-12 * float(expected.abs().max()), rtol=0)


def test_gauss_newton_of_a_linear_model_is_its_hessian():
    run = make_run("adamw")
    run.module = nn.Linear(5, 3).double()
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    exact, ggn = (
        AdamWInfluence(trajectory, c).fit(task, run.X, run.y).score(queries, targets)
        for c in ("hessian", "ggn")
    )
    np.testing.assert_allclose(ggn, exact, atol=1e-13)


@pytest.mark.parametrize("variant", ["momentum", "adamw"])
@pytest.mark.parametrize("horizon", [1, 3, 7])
def test_horizon_reads_the_output_that_many_steps_later(variant, horizon):
    """A run cut short K steps after a batch gives that batch's truncated scores."""
    run = make_run(variant)
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 2)
    influence = influence_of(run, trajectory, horizon=horizon).fit(task, run.X, run.y)
    found = influence.step_scores(queries, targets)
    whole, scale = run.batches, np.abs(found.scores).max()
    for step in (0, 2, 6, 9):
        run.batches = whole[: step + horizon]
        expected, _ = occurrence_gradients(run, start, queries, targets)
        own = np.repeat(range(len(run.batches)), [len(b) for b in run.batches]) == step
        np.testing.assert_allclose(
            found.scores[:, found.steps == step], expected[:, own], atol=1e-12 * scale, rtol=0
        )


@pytest.mark.parametrize("variant", ["sgd_schedule", "adamw"])
def test_a_horizon_as_long_as_the_run_is_the_whole_run(variant):
    run = make_run(variant)
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 2)
    whole, ten, more = (
        influence_of(run, trajectory, horizon=h).fit(task, run.X, run.y).score(queries, targets)
        for h in (None, 10, 50)
    )
    np.testing.assert_array_equal(ten, whole)
    np.testing.assert_array_equal(more, whole)


def test_horizon_0_of_sgd_is_tracin_at_every_step():
    run = make_run("sgd")
    _, task, trajectory = recorded(run, every=1)
    queries, targets = data(1, 3)
    influence = SGDInfluence(trajectory, removal="fixed", horizon=0).fit(task, run.X, run.y)
    dense, expected = Dense(run, trajectory, "none"), np.zeros((3, N))
    for step, rows in enumerate(run.batches):
        own = dense.gradients(step, run.X[rows], run.y[rows])
        of_queries = dense.gradients(step, queries, targets)
        expected[:, rows] += 0.3 / len(rows) * (of_queries @ own.T).numpy()
    np.testing.assert_allclose(influence.score(queries, targets), expected, atol=1e-14)


def test_queries_alone_equal_queries_together():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 5)
    for curvature in ("hessian", "ggn", "fisher", "none"):
        together, alone, pairs = (
            AdamWInfluence(trajectory, curvature, batch_size=size)
            .fit(task, run.X, run.y)
            .score(queries, targets)
            for size in (None, 1, 2)
        )
        np.testing.assert_allclose(alone, together, atol=1e-14)
        np.testing.assert_allclose(pairs, together, atol=1e-14)


@pytest.mark.parametrize("curvature", ["hessian", "ggn", "fisher"])
def test_layers_without_a_batching_rule(curvature):
    """The double backward of GroupNorm cannot be batched."""
    torch.manual_seed(0)
    run = make_run("adamw")
    run.module = nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 3),
    ).double()  # fmt: skip
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    influence = AdamWInfluence(trajectory, curvature).fit(task, run.X, run.y)
    found = influence.step_scores(queries, targets).scores
    alone = AdamWInfluence(trajectory, curvature, batch_size=1).fit(task, run.X, run.y)
    np.testing.assert_allclose(
        found, alone.step_scores(queries, targets).scores, atol=1e-12, rtol=0
    )
    if curvature == "hessian":
        expected, _ = occurrence_gradients(run, start, queries, targets)
        np.testing.assert_allclose(found, expected, atol=1e-11, rtol=0)


def test_self_influence_is_the_diagonal():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    influence = AdamWInfluence(trajectory, output="margin", batch_size=7).fit(task, run.X, run.y)
    losses = AdamWInfluence(trajectory).fit(task, run.X, run.y).score(run.X, run.y)
    np.testing.assert_allclose(influence.self_influence(), np.diagonal(losses), atol=1e-13)


def test_sgd_influence_of_an_adam_run_warns_and_is_plain_sgd():
    run = make_run("adamw")
    _, task, trajectory = recorded(run, every=1)
    queries, targets = data(1, 2)
    with pytest.warns(InfluenceKitWarning, match="as if SGD"):
        influence = SGDInfluence(trajectory, "none", removal="fixed").fit(task, run.X, run.y)
    found = influence.step_scores(queries, targets)
    last = run.batches[-1]
    dense = Dense(run, trajectory, "none")
    own = dense.gradients(9, run.X[last], run.y[last])
    expected = 0.02 / len(last) * dense.gradients(10, queries, targets) @ own.T
    np.testing.assert_allclose(found.scores[:, -len(last) :], expected, atol=1e-14)
