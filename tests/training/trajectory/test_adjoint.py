"""Scores along a trajectory equal autograd through the whole run, written out."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from influencekit import AdamWInfluence, SGDInfluence, as_task
from influencekit.training import record_trajectory
from tests._shared.tables import random_classes
from tests.training.trajectory import _unrolled
from tests.training.trajectory._unrolled import Run, occurrence_gradients

N, D, C = 24, 5, 3


def data(seed=0, n=N):
    return random_classes(n, D, C, seed)


def net(activation=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, 7), activation(), nn.Linear(7, C)).double()


def batches(n_epochs=2, size=5, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_epochs):
        order = rng.permutation(N)
        found += [order[i : i + size].tolist() for i in range(0, N, size)]
    return found


def recorded(run, every=4, **options):
    """Start, trained task and trajectory of a run."""
    start = {n: p.detach().clone() for n, p in run.module.named_parameters()}
    optimizer = run.make_optimizer()
    with record_trajectory(
        run.module, optimizer, len(run.X), every=every, max_norm=run.max_norm, **options
    ) as recorder:
        run.train(recorder, optimizer)
    return start, as_task(run.module, loss=nn.CrossEntropyLoss()), recorder.trajectory_


def influence_of(run, trajectory, curvature="hessian", **options):
    """Exact derivatives by default, also for ReLU nets."""
    kind = SGDInfluence if run.optimizer is SGD else AdamWInfluence
    return kind(trajectory, curvature, **options)


def warmup(step):
    return min(1.0, (step + 1) / 4) * 0.9**step


VARIANTS = {
    "sgd": (SGD, {"lr": 0.3}, {}),
    "sgd_decay": (SGD, {"lr": 0.3, "weight_decay": 0.1}, {}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}, {}),
    "dampening": (SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}, {}),
    "nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}, {}),
    "adam": (Adam, {"lr": 0.02}, {}),
    "adam_l2": (Adam, {"lr": 0.02, "weight_decay": 0.1}, {}),
    "adamw": (AdamW, {"lr": 0.02, "weight_decay": 0.3}, {}),
    "betas": (AdamW, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}, {}),
    "amsgrad": (AdamW, {"lr": 0.02, "amsgrad": True, "betas": (0.9, 0.7)}, {}),
    "amsgrad_l2": (Adam, {"lr": 0.02, "amsgrad": True, "weight_decay": 0.1}, {}),
    "schedule": (AdamW, {"lr": 0.05}, {"rates": warmup}),
    "sgd_schedule": (SGD, {"lr": 0.5, "momentum": 0.5}, {"rates": warmup}),
    "groups": (
        AdamW,
        {"lr": 0.02},
        {"groups": {"0.": {"lr": 0.05, "weight_decay": 0.5, "betas": (0.5, 0.9)}}},
    ),
    "sgd_groups": (SGD, {"lr": 0.1, "momentum": 0.9}, {"groups": {"2.": {"lr": 0.3}}}),
    "clip": (AdamW, {"lr": 0.02}, {"max_norm": 0.3}),
    "sgd_clip": (SGD, {"lr": 0.5, "momentum": 0.9}, {"max_norm": 0.4}),
}


def make_run(name, activation=nn.Tanh, seed=0):
    optimizer, options, more = VARIANTS[name]
    X, y = data(seed)
    return Run(net(activation, seed), X, y, optimizer, options, batches=batches(), **more)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_occurrence_equals_autograd(variant, activation):
    run = make_run(variant, activation)
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 4)
    expected, final = occurrence_gradients(run, start, queries, targets)
    for name, p in final.items():  # the reference is the run that was recorded
        torch.testing.assert_close(p, dict(run.module.named_parameters())[name], atol=1e-13, rtol=0)
    influence = influence_of(run, trajectory).fit(task, run.X, run.y)
    found = influence.step_scores(queries, targets)
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found.scores, expected, atol=1e-12 * scale, rtol=0)
    np.testing.assert_array_equal(found.rows, np.concatenate(run.batches))
    np.testing.assert_array_equal(found.steps, np.repeat(range(10), [5, 5, 5, 5, 4] * 2))


def test_clipping_was_active():
    for name in ("clip", "sgd_clip"):
        run = make_run(name)
        loss = run.loss(run.module(run.X[run.batches[0]]), run.y[run.batches[0]])
        grads = torch.autograd.grad(loss, list(run.module.parameters()))
        assert torch.sqrt(sum((g * g).sum() for g in grads)) > 1.2 * run.max_norm


@pytest.mark.parametrize("variant", ["momentum", "adamw", "clip"])
def test_fixed_shares(variant):
    run = make_run(variant)
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    expected, _ = occurrence_gradients(run, start, queries, targets, renormalize=False)
    influence = influence_of(run, trajectory, removal="fixed").fit(task, run.X, run.y)
    found = influence.step_scores(queries, targets).scores
    np.testing.assert_allclose(found, expected, atol=1e-12 * float(expected.abs().max()), rtol=0)


def test_scores_sum_over_occurrences():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    influence = AdamWInfluence(trajectory).fit(task, run.X, run.y)
    steps = influence.step_scores(queries, targets)
    expected = np.zeros((3, N))
    np.add.at(expected.T, steps.rows, steps.scores.T)
    np.testing.assert_allclose(influence.score(queries, targets), expected, atol=1e-14)


def outputs_at(run, start, row, weight, queries, targets):
    """Minus the queries' losses after the run with one row weighed."""
    weights = [
        torch.tensor([weight if r == row else 1.0 for r in b], dtype=torch.float64)
        for b in run.batches
    ]
    inputs = {n: p.clone().requires_grad_(True) for n, p in start.items()}
    theta = run.final(inputs, weights)
    outputs = torch.func.functional_call(run.module, theta, (queries,))
    return -run.loss(outputs, targets, reduction="none").detach().numpy()


@pytest.mark.parametrize("variant", ["nesterov", "adamw"])
def test_removing_half_an_example_changes_the_loss_as_said(variant):
    """Central differences of whole runs, in the weight of one example in all of its batches."""
    run = make_run(variant)
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    scores = influence_of(run, trajectory).fit(task, run.X, run.y).score(queries, targets)
    h = 1e-5

    def loss(row, weight):
        return outputs_at(run, start, row, weight, queries, targets)

    for row in (0, 7, 19):
        slope = (loss(row, 1 + h) - loss(row, 1 - h)) / (2 * h)
        np.testing.assert_allclose(scores[:, row], slope, atol=1e-7 * np.abs(scores).max())


@pytest.mark.parametrize("variant", ["adamw", "amsgrad"])
def test_dead_features_have_no_nan_and_the_right_value(variant, monkeypatch):
    """Features absent in the first steps: autograd through the root at 0 gives NaN."""
    run = make_run(variant)
    first = sorted({r for b in run.batches[:2] for r in b})
    run.X[:, 2] = 0.0
    run.batches = [b for b in run.batches if not set(b) & set(first)][:2] + [first[:5], first[5:]]
    run.batches = run.batches[2:] + run.batches[:2]
    alive = sorted({r for b in run.batches[2:] for r in b})
    run.X[alive, 2] = torch.linspace(-1, 1, len(alive)).double()
    start, task, trajectory = recorded(run, every=2)
    queries, targets = data(1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(_unrolled, "SAFE_ROOT", False)
        assert occurrence_gradients(run, start, queries, targets)[0].isnan().any()
    scores = AdamWInfluence(trajectory).fit(task, run.X, run.y).score(queries, targets)
    h = 1e-6
    for row in (first[0], alive[0]):
        values = [outputs_at(run, start, row, w, queries, targets) for w in (1 + h, 1 - h)]
        slope = (values[0] - values[1]) / (2 * h)
        np.testing.assert_allclose(scores[:, row], slope, atol=1e-6 * np.abs(scores).max())


def test_last_step_in_closed_form():
    """-<∇f, dθ/dw> of the last step of plain SGD is η c <∇f, ∇loss_j - g>."""
    run = make_run("sgd")
    _, task, trajectory = recorded(run, every=1)
    queries, targets = data(1, 2)
    found = SGDInfluence(trajectory).fit(task, run.X, run.y).step_scores(queries, targets)
    theta = trajectory.snapshots[9].tensors["theta"]
    last = run.batches[9]

    def flat_gradient(parameters, X, y):
        inputs = {n: p.clone().requires_grad_(True) for n, p in parameters.items()}
        loss = run.loss(torch.func.functional_call(run.module, inputs, (X,)), y)
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, inputs.values())])

    end = {n: p.detach() for n, p in run.module.named_parameters()}
    own = torch.stack([flat_gradient(theta, run.X[[r]], run.y[[r]]) for r in last])
    outputs = torch.stack([flat_gradient(end, queries[[i]], targets[[i]]) for i in range(2)])
    expected = 0.3 / len(last) * outputs @ (own - own.mean(0)).T
    np.testing.assert_allclose(found.scores[:, -len(last) :], expected, atol=1e-14)
