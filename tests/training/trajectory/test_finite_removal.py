"""removal_order="finite" against whole runs without an example, where these are simple."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import AdamW

from influencekit import AdamWInfluence, SGDInfluence, as_task
from influencekit.training import record_trajectory, trajectory_leave_one_out
from influencekit.training.trajectory._finite_removal import FiniteRemoval
from tests.training.trajectory._unrolled import Run
from tests.training.trajectory.test_adjoint import (
    VARIANTS,
    N,
    batches,
    data,
    influence_of,
    make_run,
    recorded,
)

ROWS = [0, 7, 19]


def constant_gradients(variant):
    """A run whose gradients do not depend on the parameters: absolute errors of far targets.

    Feature 2 belongs to one row alone.
    """
    optimizer, options, more = VARIANTS[variant]
    X, _ = data()
    X[:, 2] = 0.0
    X[ROWS[1], 2] = 1.5
    y = torch.where(torch.arange(N) % 3 > 0, 100.0, -100.0).double()[:, None]
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 1)).double()
    if "groups" in more:
        more = {"groups": {"0.bias": next(iter(more["groups"].values()))}}
    loss = nn.functional.l1_loss
    return Run(module, X, y, optimizer, options, batches=batches(), loss=loss, **more)


def record(run, loss):
    """Start, task and trajectory of a run."""
    start = {n: p.detach().clone() for n, p in run.module.named_parameters()}
    optimizer = run.make_optimizer()
    with record_trajectory(run.module, optimizer, N, every=4, max_norm=run.max_norm) as recorder:
        run.train(recorder, optimizer)
    return start, as_task(run.module, loss=loss), recorder.trajectory_


def predictions_without(run, start, row, queries):
    """Predictions after the run with torch's own optimizer, without a row."""
    run.module.load_state_dict(start)
    whole = run.batches
    run.batches = [[r for r in b if r != row] for b in whole]
    run.train(None, run.make_optimizer())
    run.batches = whole
    return run.module(queries).detach().numpy()[:, 0]


EXACT = [
    "sgd", "sgd_decay", "momentum", "dampening", "nesterov", "adam", "adamw", "betas", "amsgrad",
    "schedule", "sgd_schedule", "groups", "clip", "sgd_clip",
]  # fmt: skip


@pytest.mark.parametrize("variant", EXACT)
def test_equals_the_run_without_the_example_where_gradients_are_constant(variant):
    run = constant_gradients(variant)
    start, task, trajectory = record(run, nn.L1Loss())
    queries = data(1, 4)[0]
    found, slopes = (
        influence_of(run, trajectory, output="prediction", removal_order=order)
        .fit(task, run.X, run.y)
        .score(queries)[:, ROWS]
        for order in ("finite", "derivative")
    )
    full = predictions_without(run, start, None, queries)
    truth = np.stack([full - predictions_without(run, start, r, queries) for r in ROWS], axis=1)
    scale = np.abs(truth).max()
    np.testing.assert_allclose(found, truth, atol=1e-12 * max(scale, 1.0), rtol=0)
    if run.optimizer is AdamW and variant != "betas":  # a step of full size for row 7 alone
        assert np.abs(slopes - truth)[:, 1].max() > 0.1 * scale


@pytest.mark.parametrize("variant", ["nesterov", "adamw", "adam_l2", "amsgrad", "clip"])
@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
def test_taking_little_away_is_the_derivative(variant, removal):
    run = make_run(variant)
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    influence = influence_of(run, trajectory, removal=removal).fit(task, run.X, run.y)
    sweep, rows = influence.fitted_[0].sweep, torch.arange(N)
    gradients = influence.fitted_[0]._gradients(influence._queries(queries, targets), "neg_loss")
    derivative, finite = FiniteRemoval(sweep, removed=1e-6)(gradients, rows, N)
    scale = float(derivative.abs().max())
    np.testing.assert_allclose(finite, derivative, atol=1e-4 * scale, rtol=0)
    np.testing.assert_allclose(derivative, influence.score(queries, targets), atol=1e-14)


@pytest.mark.parametrize("variant", ["adamw", "amsgrad", "adam_l2", "clip"])
@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
def test_takes_most_of_the_error_away_on_smooth_nets(variant, removal):
    run = make_run(variant)
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 5)
    truth = trajectory_leave_one_out(
        task, run.X, run.y, queries, targets, trajectory=trajectory, removal=removal
    ).scores
    errors = {}
    for order in ("finite", "derivative"):
        influence = influence_of(run, trajectory, removal=removal, removal_order=order)
        found = influence.fit(task, run.X, run.y).score(queries, targets)
        errors[order] = np.linalg.norm(found - truth) / np.linalg.norm(truth)
    assert errors["finite"] < 0.5 * errors["derivative"], errors


def test_rows_that_come_twice_and_batches_of_one():
    run = constant_gradients("adamw")
    run.batches = [[0], [1, 7, 7, 2], [0, 19], [3, 4, 0], [7]]
    _, task, trajectory = record(run, nn.L1Loss())
    queries = data(1, 3)[0]
    influence = AdamWInfluence(trajectory, output="prediction", removal_order="finite")
    found = influence.fit(task, run.X, run.y).score(queries)
    truth = trajectory_leave_one_out(
        task, run.X, run.y, queries, trajectory=trajectory, output="prediction", left_out=ROWS
    ).scores
    np.testing.assert_allclose(found[:, ROWS], truth, atol=1e-12)
    assert not found[:, [5, 23]].any()  # never learned from


@pytest.mark.slow
def test_blocks_change_nothing():
    run = make_run("amsgrad")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 5)
    influence = AdamWInfluence(trajectory, removal_order="finite").fit(task, run.X, run.y)
    found = influence.score(queries, targets)
    size = influence.fitted_[0].replay.model.size * 8
    for options in ({"batch_size": 2}, {"max_memory": 100 * size}, {"max_memory": 1}):
        other = AdamWInfluence(trajectory, removal_order="finite", **options).fit(
            task, run.X, run.y
        )
        np.testing.assert_allclose(other.score(queries, targets), found, atol=1e-14)
    own = influence.score(run.X, run.y)
    np.testing.assert_allclose(influence.self_influence(), np.diagonal(own), atol=1e-14)


def test_float32_keeps_small_moves():
    """Moves of 1e-9 of parameters of size 1."""
    found = []
    for dtype in (torch.float64, torch.float32):
        run = make_run("adamw")
        run.options = {"lr": 1e-6, "weight_decay": 0.1}
        run.module, run.X = run.module.to(dtype), run.X.to(dtype)
        _, task, trajectory = recorded(run, every=1)
        queries, targets = data(1, 3)
        influence = AdamWInfluence(trajectory, removal_order="finite").fit(task, run.X, run.y)
        found.append(influence.score(queries.to(dtype), targets))
    np.testing.assert_allclose(found[1], found[0], atol=2e-3 * np.abs(found[0]).max())


def test_curvatures_and_a_wrong_optimizer_are_taken():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    for curvature in ("ggn", "fisher", "none"):
        scores = [
            AdamWInfluence(trajectory, curvature, removal_order=order)
            .fit(task, run.X, run.y)
            .score(queries, targets)
            for order in ("finite", "derivative")
        ]
        assert 0.001 < np.linalg.norm(scores[0] - scores[1]) / np.linalg.norm(scores[1]) < 0.5
    with pytest.warns(UserWarning, match="as if SGD"):
        sgd = SGDInfluence(trajectory, removal_order="finite", removal="fixed").fit(
            task, run.X, run.y
        )
    with pytest.warns(UserWarning, match="as if SGD"):
        slope = SGDInfluence(trajectory, removal="fixed").fit(task, run.X, run.y)
    # without a memory a removal of a share is linear
    np.testing.assert_allclose(
        sgd.score(queries, targets), slope.score(queries, targets), atol=1e-14
    )


def test_what_is_refused():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    with pytest.raises(ValueError, match="horizon: got 3 with removal_order='finite'"):
        AdamWInfluence(trajectory, removal_order="finite", horizon=3).fit(task, run.X, run.y)
    influence = AdamWInfluence(trajectory, removal_order="finite").fit(task, run.X, run.y)
    with pytest.raises(ValueError, match="step_scores: removal_order='finite'"):
        influence.step_scores(*data(1, 2))
