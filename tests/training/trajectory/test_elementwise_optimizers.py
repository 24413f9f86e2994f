"""Recorded runs of torch's other elementwise optimizers, against runs by torch's own steps."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import AdamWInfluence, as_task
from influencekit.exceptions import TrajectoryError
from influencekit.training import record_trajectory
from tests.training.trajectory.test_adjoint import batches, data, net

OPTIMIZERS = {
    "Adadelta": {"lr": 1.0, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1},
    "Adagrad": {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1},
    "Adamax": {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-3},
    "NAdam": {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True, "eps": 1e-3},
    "RAdam": {"lr": 0.02, "betas": (0.9, 0.8), "weight_decay": 0.1, "eps": 1e-3},
    "RMSprop": {"lr": 0.01, "momentum": 0.5, "centered": True, "eps": 1e-2},
}


def trained(name, weights, recorded=False, groups=False, l1=False):
    """A run by torch's own optimizer, with the weights of its rows."""
    X, y = data()
    if l1:  # gradients that do not depend on the parameters
        torch.manual_seed(0)
        module, y = nn.Linear(5, 1).double(), torch.where(y > 0, 100.0, -100.0).double()[:, None]
    else:
        module = net()
    params = list(module.parameters())
    given = [{"params": params[:1], "lr": 0.03, "weight_decay": 0.2}, {"params": params[1:]}]
    options = OPTIMIZERS[name] | ({"weight_decay": 0.0} if l1 else {})
    optimizer = getattr(torch.optim, name)(given if groups else params, **options)
    loss = (nn.L1Loss if l1 else nn.CrossEntropyLoss)(reduction="none")
    with record_trajectory(module, optimizer, len(X), every=4) as recorder:
        for rows in batches():
            recorder.rows(rows)
            optimizer.zero_grad()
            own = weights[rows]
            (own * loss(module(X[rows]), y[rows]).reshape(-1)).sum().div(own.sum()).backward()
            optimizer.step()
    return module, X, y, recorder.trajectory_


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_score_is_the_derivative_by_the_weight_of_a_row(name, groups):
    ones, row, step = torch.ones(24, dtype=torch.float64), 7, 1e-5
    module, X, y, run = trained(name, ones, groups=groups)
    influence = AdamWInfluence(run, "hessian").fit(as_task(module, nn.CrossEntropyLoss()), X, y)
    queries, targets = data(1, 4)
    ends = []
    for sign in (1, -1):
        moved = ones.clone()
        moved[row] += sign * step
        end = trained(name, moved, groups=groups)[0]
        ends.append(-nn.functional.cross_entropy(end(queries), targets, reduction="none"))
    slope = ((ends[0] - ends[1]) / (2 * step)).detach().numpy()
    found = influence.score(queries, targets)[:, row]
    np.testing.assert_allclose(found, slope, rtol=0, atol=2e-6 * abs(slope).max())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_finite_removal_is_the_run_without_the_row(name):
    ones, row = torch.ones(24, dtype=torch.float64), 7
    module, X, y, run = trained(name, ones, l1=True)
    influence = AdamWInfluence(run, removal_order="finite", output="prediction")
    found = influence.fit(as_task(module, nn.L1Loss()), X, y).score(X[:3])[:, row]
    without = ones.clone()
    without[row] = 0
    end = trained(name, without, l1=True)[0]
    lost = (module(X[:3]) - end(X[:3])).detach().numpy()[:, 0]
    np.testing.assert_allclose(found, lost, rtol=0, atol=1e-6 * abs(lost).max())


@pytest.mark.parametrize("name", ["Muon", "Adafactor", "ASGD"])
def test_others_are_refused_by_name(name):
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    module = nn.Linear(3, 2, bias=False)
    optimizer = getattr(torch.optim, name)(module.parameters(), lr=0.1)
    with (
        pytest.raises(TrajectoryError, match=f"got {name}; accepted are SGD, .* and RAdam"),
        record_trajectory(module, optimizer, 3),
    ):
        pass


def test_numbers_that_differ_between_groups_are_refused():
    module = nn.Linear(3, 2)
    groups = [{"params": module.weight, "alpha": 0.5}, {"params": module.bias}]
    optimizer = torch.optim.RMSprop(groups, lr=0.1)
    with (
        pytest.raises(TrajectoryError, match="alpha differs"),
        record_trajectory(module, optimizer, 3),
    ):
        pass
