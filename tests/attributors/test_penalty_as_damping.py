"""The default damping of regression nets at their optimum beside a penalty."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from influencekit import InfluenceFunction, as_task
from influencekit.damping import auto_damping
from tests._shared.marks import NOT_TRAINED
from tests._shared.nets import tanh_net

RNG = np.random.default_rng(0)
SCALES = [3.0, 1.0, 0.3, 0.1]
COLUMNS = RNG.normal(size=(40, 4))
MEAN = np.tanh(COLUMNS[:, 0] + 0.5 * COLUMNS[:, 2]) + 0.5 * COLUMNS[:, 1]
X, Y = COLUMNS * SCALES, (MEAN + 0.1 * RNG.normal(size=40))[:, None]
X_NEW = torch.tensor(RNG.normal(size=(15, 4)) * SCALES)
PENALTY = 1e-3
WIDTH = 2
MODULE = tanh_net(4, WIDTH, 1)


def ones(*shape):
    return torch.ones(*shape, dtype=torch.float64)


def unflattened(flat):
    shapes = {"0.weight": (WIDTH, 4), "0.bias": (WIDTH,), "2.weight": (1, WIDTH), "2.bias": (1,)}
    parts = flat.split([int(np.prod(shape)) for shape in shapes.values()])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def predictions(flat, inputs):
    return functional_call(MODULE, unflattened(flat), (inputs,))[:, 0]


def objective(flat, weights):
    """Weighted squares of the errors over the number of all rows, and the penalty."""
    errors = predictions(flat, torch.tensor(X)) - torch.tensor(Y[:, 0])
    return (weights * errors.square()).sum() / len(X) + PENALTY / 2 * flat @ flat


def newton(flat, weights, steps=4):
    """Minima for each row of weights (k, n), from near them: (k, p)."""
    flat = flat.expand(len(weights), -1)
    for _ in range(steps):
        slope = vmap(grad(objective))(flat, weights)
        flat = flat - torch.linalg.solve(vmap(hessian(objective))(flat, weights), slope)
    return flat


def lbfgs(max_iter):
    torch.manual_seed(0)
    start = parameters_to_vector(tanh_net(4, WIDTH, 1).parameters()).detach().requires_grad_()
    how = {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-6}
    optimizer = torch.optim.LBFGS([start], max_iter=max_iter, **how)

    def closure():
        optimizer.zero_grad()
        value = objective(start, ones(len(X)))
        value.backward()
        return value

    optimizer.step(closure)
    return start.detach()


def module_at(flat):
    module = tanh_net(4, WIDTH, 1)
    vector_to_parameters(flat, module.parameters())
    return module


def penalized(module, names=None):
    task = as_task(module, loss=nn.MSELoss())
    names = task.parameters if names is None else names
    return replace(
        task, penalty={name: torch.tensor(PENALTY, dtype=torch.float64) for name in names}
    )


@pytest.fixture(scope="module")
def minimum():
    return newton(lbfgs(150), ones(1, len(X)))[0]


def agreement(scores, effects):
    return np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(scores, effects, strict=True)])


def test_the_penalty_bounds_the_default_and_the_effects_of_rows_stay(minimum):
    influence = InfluenceFunction("ggn", output="prediction")
    influence.fit(penalized(module_at(minimum)), X, Y)
    assert influence.gradient_ratio_ < 1e-6
    assert influence.damping_ == PENALTY
    weights = ones(40, 40) - 0.1 * torch.eye(40, dtype=torch.float64)  # less of each row
    refits = newton(minimum, weights)
    assert float(vmap(grad(objective))(refits, weights).abs().max()) < 1e-8
    effects = predictions(minimum, X_NEW) - vmap(predictions, (0, None))(refits, X_NEW)
    found = agreement(influence.score(X_NEW), effects.T.numpy())
    influence.set_damping(auto_damping(influence.curvature_))
    assert found > 0.9 > 0.85 > agreement(influence.score(X_NEW), effects.T.numpy())


@NOT_TRAINED
@pytest.mark.parametrize("case", ["stopped", "biases without penalty", "projected"])
def test_other_regressions_keep_the_rule_for_nets(minimum, case):
    task = penalized(module_at(lbfgs(4) if case == "stopped" else minimum))
    if case == "biases without penalty":
        task = penalized(task.module, ["0.weight", "2.weight"])
    influence = InfluenceFunction(
        "ggn", projection_dim=10 if case == "projected" else None, random_state=0
    ).fit(task, X, Y)
    assert influence.damping_ == auto_damping(influence.curvature_) > PENALTY
