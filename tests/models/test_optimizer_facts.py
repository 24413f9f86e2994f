"""The table of optimizers says what torch does."""

import pytest
import torch
from torch import nn, optim

from influencekit.exceptions import InfluenceKitWarning
from influencekit.models._optimizers import OPTIMIZERS, optimizers_that, weight_decay_penalty

HERE = {name: facts for name, facts in OPTIMIZERS.items() if hasattr(optim, name)}
DECAY = 0.3


def trained(name, start, gradient, n_steps=3, **options):
    """Parameters after steps of an optimizer whose gradient is a function of them."""
    theta = nn.Parameter(start.clone())
    optimizer = getattr(optim, name)([theta], lr=0.05, **options)
    for _ in range(n_steps):
        theta.grad = gradient(theta.detach())
        optimizer.step()
    return theta.detach()


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", HERE)
def test_coupled_decay_is_part_of_the_gradient(name):
    start, g = numbers(3, 4), numbers(3, 4, seed=1)
    own = trained(name, start, lambda theta: g, weight_decay=DECAY)
    in_gradient = trained(name, start, lambda theta: g + DECAY * theta, weight_decay=0.0)
    assert torch.allclose(own, in_gradient, rtol=1e-12) == HERE[name].coupled


@pytest.mark.parametrize("name", optimizers_that("elementwise"))
def test_elementwise_optimizers_move_stacked_models_as_alone(name):
    start, g = numbers(2, 3, 4), numbers(2, 3, 4, seed=1)
    g[1] *= 100
    together = trained(name, start, lambda theta: g * theta.tanh())
    for model in range(2):
        alone = trained(name, start[model], lambda theta, model=model: g[model] * theta.tanh())
        assert torch.equal(together[model], alone)


@pytest.mark.parametrize("name", HERE)
def test_only_gradient_descent_is_linear_in_the_gradient(name):
    """Its steps are then a function of the curvature of a quadratic."""
    start, g = torch.zeros(3, 4, dtype=torch.float64), numbers(3, 4)
    once = trained(name, start, lambda theta: g, n_steps=10)
    twice = trained(name, start, lambda theta: 2 * g, n_steps=10)
    # ASGD descends too, but by rates that fall
    assert torch.allclose(twice, 2 * once, rtol=1e-9) == (HERE[name].descends or name == "ASGD")


def test_a_namesake_of_another_library_is_not_taken_for_torchs():
    class SGD(optim.Optimizer):
        def step(self):
            """Do nothing."""

    module = nn.Linear(2, 1)
    other = SGD(module.parameters(), {"lr": 0.1, "weight_decay": DECAY})
    with pytest.warns(InfluenceKitWarning, match="does not know whether it is part"):
        assert weight_decay_penalty(other, module) == {}
