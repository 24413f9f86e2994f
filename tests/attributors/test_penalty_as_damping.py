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
X = RNG.normal(size=(40, 4))
Y = np.sin(X[:, :1]) * X[:, 1:2] + 0.3 * RNG.normal(size=(40, 1))
X_NEW = torch.tensor(RNG.normal(size=(15, 4)))
PENALTY = 1e-2
MODULE = tanh_net(4, 5, 1)


def unflattened(flat):
    shapes = {"0.weight": (5, 4), "0.bias": (5,), "2.weight": (1, 5), "2.bias": (1,)}
    parts = flat.split([int(np.prod(shape)) for shape in shapes.values()])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def predictions(flat, inputs):
    return functional_call(MODULE, unflattened(flat), (inputs,))[:, 0]


def objective(flat, weights):
    """Weighted squares of the errors over the number of all rows, and the penalty."""
    errors = predictions(flat, torch.tensor(X)) - torch.tensor(Y[:, 0])
    return (weights * errors.square()).sum() / len(X) + PENALTY / 2 * flat @ flat


def newton(flat, weights, steps=8):
    """Minima for each row of weights (k, n), from near them: (k, p)."""
    flat = flat.expand(len(weights), -1)
    for _ in range(steps):
        slope = vmap(grad(objective))(flat, weights)
        flat = flat - torch.linalg.solve(vmap(hessian(objective))(flat, weights), slope)
    return flat


def lbfgs(max_iter):
    torch.manual_seed(0)
    start = parameters_to_vector(tanh_net(4, 5, 1).parameters()).detach().requires_grad_()
    how = {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-6}
    optimizer = torch.optim.LBFGS([start], max_iter=max_iter, **how)

    def closure():
        optimizer.zero_grad()
        value = objective(start, torch.ones(len(X)))
        value.backward()
        return value

    optimizer.step(closure)
    return start.detach()


def module_at(flat):
    module = tanh_net(4, 5, 1)
    vector_to_parameters(flat, module.parameters())
    return module


def penalized(module, names=None):
    task = as_task(module, loss=nn.MSELoss())
    names = task.parameters if names is None else names
    return replace(task, penalty={name: torch.tensor(PENALTY, dtype=torch.float64) for name in names})


@pytest.fixture(scope="module")
def minimum():
    return newton(lbfgs(400), torch.ones(1, len(X)))[0]


def agreement(scores, effects):
    return np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(scores, effects, strict=True)])


def test_the_penalty_bounds_the_default_and_the_effects_of_rows_stay(minimum):
    influence = InfluenceFunction("ggn", output="prediction")
    influence.fit(penalized(module_at(minimum)), X, Y)
    assert influence.gradient_ratio_ < 1e-6
    assert influence.damping_ == PENALTY
    refits = newton(minimum, 1 - torch.eye(len(X)))
    assert float(vmap(grad(objective))(refits, 1 - torch.eye(len(X))).abs().max()) < 1e-6
    effects = predictions(minimum, X_NEW) - vmap(predictions, (0, None))(refits, X_NEW)
    effects = effects.T.numpy()
    spectrum_alone = auto_damping(influence.curvature_)
    found = agreement(influence.score(X_NEW), effects)
    alone = agreement(influence.set_damping(spectrum_alone).score(X_NEW), effects)
    print(found, alone, spectrum_alone)
    assert found > alone + 0.05


@NOT_TRAINED
@pytest.mark.parametrize("case", ["stopped", "biases without penalty", "fisher", "projected"])
def test_other_regressions_keep_the_rule_for_nets(minimum, case):
    task = penalized(module_at(lbfgs(4) if case == "stopped" else minimum))
    if case == "biases without penalty":
        task = penalized(task.module, ["0.weight", "2.weight"])
    influence = InfluenceFunction(
        "fisher" if case == "fisher" else "ggn",
        projection_dim=10 if case == "projected" else None,
        random_state=0,
    ).fit(task, X, Y)
    expected = auto_damping(influence.curvature_)
    assert influence.damping_ == expected
    assert expected != PENALTY
