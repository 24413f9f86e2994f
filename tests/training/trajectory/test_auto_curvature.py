"""curvature="auto" and expected_lds_ against reruns in plain torch."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.optim import SGD

from influencekit import AdamWInfluence, SGDInfluence, SubsetPosterior
from influencekit.attributors.along_the_run import _fitted_trajectory
from influencekit.attributors.along_the_run._trial import FORMS, SHARES, Trial
from influencekit.metrics import linear_datamodeling_score
from influencekit.training import rerun_without
from tests.training.trajectory._unrolled import Run
from tests.training.trajectory.test_adjoint import (
    data,
    influence_of,
    make_run,
    net,
    recorded,
)


def plain_outputs(run, start, masks, queries, targets, renormalize=True):
    """Minus the queries' losses after reruns that keep the rows of each mask, one by one."""
    found = []
    for mask in masks:
        weights = [torch.as_tensor(mask[b], dtype=torch.float64) for b in run.batches]
        inputs = {n: p.clone().requires_grad_(True) for n, p in start.items()}
        theta = run.final(inputs, weights, renormalize)
        outputs = torch.func.functional_call(run.module, theta, (queries,))
        found.append(-run.loss(outputs, targets, reduction="none").detach().numpy())
    return np.array(found)


def mean_spearman(predicted, truth):
    return np.mean([spearmanr(a, b).statistic for a, b in zip(predicted, truth, strict=True)])


@pytest.mark.parametrize("variant", [pytest.param("momentum", marks=pytest.mark.slow), "adamw"])
def test_auto_takes_the_form_that_predicts_plain_reruns_best(variant):
    run = make_run(variant, nn.ReLU)
    start, task, trajectory = recorded(run)
    auto = influence_of(run, trajectory, "auto").fit(task, run.X, run.y)
    trial = Trial(auto.fitted_[0], "renormalize", np.arange(len(run.X)))
    queries = next(trial.queries.batches(99))
    for share in SHARES:
        truth = plain_outputs(run, start, trial.masks[share][:3], queries.inputs, queries.targets)
        np.testing.assert_allclose(trial.outputs[share][:3], truth, atol=1e-10)
    means = []
    for form in FORMS:
        own = influence_of(run, trajectory, form.curvature).fit(task, run.X, run.y).fitted_[0]
        own.sweep.smoothing = form.smoothing
        scores, lds = own.scores(trial.queries), []
        for share in SHARES:
            masks = trial.masks[share].astype(float)
            lds.append(mean_spearman(scores @ masks.T, trial.outputs[share].T))
        means.append(np.mean(lds))
        if form == auto.fitted_[0].form:
            assert auto.expected_lds_ == pytest.approx(dict(zip(SHARES, lds, strict=True)))
    assert FORMS[int(np.argmax(means))] == auto.fitted_[0].form
    assert auto.curvature_ == auto.fitted_[0].form.curvature


def test_the_trials_queries_are_never_left_out():
    run = make_run("momentum", nn.ReLU)
    _, task, trajectory = recorded(run)
    influence = influence_of(run, trajectory).fit(task, run.X, run.y)
    trial = Trial(influence.fitted_[0], "renormalize", np.arange(len(run.X)))
    batch = next(trial.queries.batches(99))
    rows = [int(((x == run.X).all(1)).nonzero()[0, 0]) for x in batch.inputs]
    for share, count in zip(SHARES, (2, 1), strict=True):
        assert trial.masks[share][:, rows].all()
        assert ((~trial.masks[share]).sum(axis=1) == count).all()


def test_smooth_nets_stay_exact_and_are_not_run_again(monkeypatch):
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    exact = AdamWInfluence(trajectory, "hessian").fit(task, run.X, run.y)
    monkeypatch.setattr(_fitted_trajectory, "Trial", None)
    auto = AdamWInfluence(trajectory).fit(task, run.X, run.y)
    np.testing.assert_array_equal(auto.score(queries, targets), exact.score(queries, targets))
    assert (auto.curvature_, auto.smoothing_) == ("hessian", None)


@pytest.mark.parametrize(
    ("options", "form"),
    [({"horizon": 3}, "hessian"), ({"removal_order": "finite"}, "hessian"),
     ({"mask_size": 3}, "fisher")],
)  # fmt: skip
def test_where_reruns_ask_another_question_the_form_is_fixed(monkeypatch, options, form):
    run = make_run("adamw", nn.ReLU)
    _, task, trajectory = recorded(run)
    monkeypatch.setattr(_fitted_trajectory, "Trial", None)
    auto = AdamWInfluence(trajectory, **options).fit(task, run.X, run.y)
    assert auto.curvature_ == form


def one_step(rate=0.1):
    """One step of SGD on a sum of losses: outputs are additive in the rows."""
    X, y = data()
    torch.manual_seed(0)
    module = nn.Linear(5, 3).double()
    run = Run(module, X, y, SGD, {"lr": rate}, batches=[list(range(len(X)))])
    return run, recorded(run)


def test_a_run_that_is_additive_is_expected_at_1():
    run, (_, task, trajectory) = one_step()
    influence = SGDInfluence(trajectory, removal="fixed", output="logit").fit(task, run.X, run.y)
    assert influence.expected_lds_ == pytest.approx({0.1: 1.0, 0.01: 1.0})


def test_a_second_fit_takes_the_same():
    run = make_run("adamw", nn.ReLU)
    _, task, trajectory = recorded(run)
    first, again = (AdamWInfluence(trajectory).fit(task, run.X, run.y) for _ in range(2))
    assert first.expected_lds_ == again.expected_lds_
    assert first.fitted_[0].form == again.fitted_[0].form


def test_the_prior_of_reruns_of_the_same_run_is_the_adjoint():
    """With outputs of reruns, the posterior is nearer to other reruns than the adjoint alone."""
    X, y = data(0, 48)
    rng = np.random.default_rng(0)
    order = [rng.permutation(48)[i : i + 6].tolist() for _ in range(4) for i in range(0, 48, 6)]
    run = Run(net(nn.ReLU), X, y, SGD, {"lr": 1.0, "momentum": 0.5}, batches=order)
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 6)
    masks = rng.random((260, 48)) > 0.1
    reruns = [
        rerun_without(task, X, y, queries, targets, masks=some, trajectory=trajectory)
        for some in (masks[:200], masks[200:])
    ]
    adjoint = SGDInfluence(trajectory, "hessian")
    posterior = SubsetPosterior(adjoint, random_state=0, cv=2)
    posterior.fit(task, X, y, X_query=queries, y_query=targets, subset_outputs=reruns[0])
    truth = reruns[1].outputs, masks[200:]
    own = linear_datamodeling_score(*truth, posterior.score(queries, targets)).mean
    prior = linear_datamodeling_score(*truth, posterior.prior_.score(queries, targets)).mean
    assert posterior.slope_.mean() > 0
    assert own > prior + 0.02
