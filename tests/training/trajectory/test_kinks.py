"""The second derivative that is given to ReLU, and the estimates of the error proxy."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from influencekit import AdamWInfluence, SGDInfluence
from influencekit.training.trajectory._kinks import SMOOTHING, SoftKinks, Watch
from tests.training.trajectory._unrolled import occurrence_gradients
from tests.training.trajectory.test_adjoint import data, influence_of, make_run, recorded

WIDTH = 0.01


class Bent(torch.autograd.Function):
    """ReLU whose derivative has the kernel as its own derivative."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return Step.apply(ctx.saved_tensors[0], g)


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, g):
        ctx.save_for_backward(z, g)
        return g * (z > 0)

    @staticmethod
    def backward(ctx, h):
        z, g = ctx.saved_tensors
        width = WIDTH * z.std(0, correction=0)
        kernel = torch.exp(-((z / width) ** 2) / 2) / (math.sqrt(2 * math.pi) * width)
        return h * g * kernel, h * (z > 0)


class BentReLU(nn.Module):
    def forward(self, z):
        return Bent.apply(z)


RELUS = {
    "functional": functional.relu,
    "torch": torch.relu,
    "method": lambda z: z.relu(),
    "module": nn.ReLU(),
    "in place": lambda z: nn.ReLU(inplace=True)(z.clone()),
}


@pytest.mark.parametrize("relu", RELUS)
def test_values_and_slopes_stay_and_the_second_derivative_is_the_kernel(relu):
    z = torch.linspace(-0.05, 0.06, 20).double().reshape(10, 2)
    z[[4, 6]] = torch.tensor([[2e-4, -1e-4], [-3e-4, 5e-4]]).double()
    z.requires_grad_(True)
    weights = torch.arange(1.0, 21).double().reshape(10, 2)
    found = []
    for function in (RELUS[relu], Bent.apply):
        with SoftKinks(WIDTH):
            value = function(z)
        (slope,) = torch.autograd.grad((weights * value).sum(), z, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), z)
        found.append((value.detach(), slope.detach(), bend))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, atol=1e-12, rtol=0)
    assert found[0][2].abs().max() > 1


def test_leaky_relu_bends_by_its_jump_and_dead_units_not_at_all():
    z = torch.tensor([[0.0, 0.001], [0.0, -0.002], [0.0, 1.0]]).double().requires_grad_(True)
    bends = []
    for function in (functional.relu, nn.LeakyReLU(0.25), lambda z: functional.leaky_relu(z, 0.25)):
        with SoftKinks(WIDTH):
            value = function(z)
        (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        bends.append(torch.autograd.grad(slope.sum(), z)[0])
    assert (bends[0][:, 0] == 0).all() and bends[0][0, 1] > 1
    for bend in bends[1:]:
        torch.testing.assert_close(bend, 0.75 * bends[0])


def test_proxy_of_kinks_is_that_of_a_run_with_the_second_derivative(monkeypatch):
    """By autograd through the whole run of a net whose activation has the kernel written out."""
    run = make_run("adamw", nn.ReLU)
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    influence = AdamWInfluence(trajectory).fit(task, run.X, run.y)
    found = influence.taylor_error_proxy(queries, targets, [2, 17], estimate="kinks")
    run.module[1] = BentReLU()
    monkeypatch.setattr(f"{__name__}.WIDTH", SMOOTHING)
    expected, _ = occurrence_gradients(run, start, queries, targets)
    rows = np.concatenate(run.batches)
    for column, row in enumerate((2, 17)):
        total = expected[:, rows == row].sum(1)
        np.testing.assert_allclose(
            (found.scores + found.proxy)[:, column], total, rtol=1e-9, atol=1e-13
        )
    assert np.abs(found.proxy).max() > 1e-3 * np.abs(found.scores).max()


def test_estimates_of_the_proxy():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    influence = AdamWInfluence(trajectory).fit(task, run.X, run.y)
    smooth = influence.taylor_error_proxy(queries, targets, [3, 9], estimate="kinks")
    assert not smooth.proxy.any()
    pushed = influence.taylor_error_proxy(queries, targets, [9, 3], estimate="finite")
    scores = AdamWInfluence(trajectory, removal_order="finite").fit(task, run.X, run.y)
    expected = scores.score(queries, targets)[:, [9, 3]]
    np.testing.assert_allclose(pushed.scores + pushed.proxy, expected, atol=1e-14)
    np.testing.assert_allclose(pushed.scores, smooth.scores[:, ::-1], atol=1e-14)
    with pytest.raises(ValueError, match="estimate: got 'third'"):
        influence.taylor_error_proxy(queries, targets, estimate="third")


class Pooled(nn.Module):
    def forward(self, z):
        return functional.max_pool1d(z[:, None], 1)[:, 0]


@pytest.mark.parametrize(
    ("activation", "estimate", "unseen"),
    [
        (nn.ReLU, "finite+kinks", ()),
        (nn.LeakyReLU, "finite+kinks", ()),
        (nn.Hardtanh, "finite+kinks", ("hardtanh",)),
        (Pooled, "finite+kinks", ("max_pool1d",)),
        (nn.Tanh, "second_order", ()),
        (nn.GELU, "second_order", ()),
    ],
)
def test_the_estimate_is_chosen_from_the_net(activation, estimate, unseen):
    run = make_run("momentum", activation)
    _, task, trajectory = recorded(run)
    fitted = SGDInfluence(trajectory).fit(task, run.X, run.y)
    found = fitted.taylor_error_proxy(*data(1, 2), [3])
    assert (found.estimate, found.unseen) == (estimate, unseen)
    own = fitted.taylor_error_proxy(*data(1, 2), [3], estimate="finite")
    assert own.reliable == (estimate == "second_order" and own.median <= 0.3)
    if not unseen and estimate != "second_order":
        kinks = fitted.taylor_error_proxy(*data(1, 2), [3], estimate="kinks")
        expected = np.abs(own.proxy) + 2 * np.abs(kinks.proxy)
        np.testing.assert_allclose(found.proxy, expected, atol=1e-14)


def test_a_bound_that_does_not_bite_is_no_kink():
    """Norms are kept above an ε by clamp; a clamp that cuts some of the values is a kink."""
    z = torch.linspace(-1.0, 1.0, 6)
    for bound, hard in ((-2.0, set()), (0.0, {"clamp"})):
        with Watch() as watch:
            z.clamp(min=bound)
        assert watch.hard == hard


def smoothed(run, trajectory, task, curvature="smoothed_hessian"):
    queries, targets = data(1, 3)
    influence = influence_of(run, trajectory, curvature=curvature).fit(task, run.X, run.y)
    return influence.step_scores(queries, targets).scores


@pytest.mark.parametrize("variant", ["momentum", "adamw", "amsgrad", "clip"])
def test_smoothed_hessian_is_that_of_a_run_with_the_second_derivative(variant, monkeypatch):
    """By autograd through the whole run of a net whose activation has the kernel written out."""
    run = make_run(variant, nn.ReLU)
    start, task, trajectory = recorded(run)
    found, exact = (smoothed(run, trajectory, task, c) for c in ("smoothed_hessian", "hessian"))
    run.module[1] = BentReLU()
    monkeypatch.setattr(f"{__name__}.WIDTH", SMOOTHING)
    expected, _ = occurrence_gradients(run, start, *data(1, 3))
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found, expected, atol=1e-9 * scale, rtol=0)
    assert np.abs(found - exact).max() > 1e-3 * scale


@pytest.mark.parametrize("variant", ["momentum", "adamw"])
def test_smoothed_hessian_of_a_smooth_net_is_the_hessian(variant):
    run = make_run(variant)
    _, task, trajectory = recorded(run)
    found, exact = (smoothed(run, trajectory, task, c) for c in ("smoothed_hessian", "hessian"))
    np.testing.assert_allclose(found, exact, atol=1e-13)


@pytest.mark.parametrize("variant", ["adamw", "amsgrad"])
def test_smoothed_hessian_skips_weights_that_never_had_a_gradient(variant):
    """A feature of one row alone, just below the kink of a unit: Adam's derivative is η/ε there."""
    run = make_run(variant, nn.ReLU)
    run.options = {**run.options, "lr": 1e-4}
    weight, bias = run.module[0].weight.detach()[0], run.module[0].bias.detach()[0]
    run.X = run.X.clone()
    run.X[:, 0] = 0.0
    run.X[7, 0] = 1.0
    normal = weight * torch.arange(5).ne(0)
    run.X[7] -= (run.X[7] @ weight + bias + 1e-2) / (normal @ normal) * normal
    _, task, trajectory = recorded(run)
    last = trajectory.snapshots[trajectory.n_steps].tensors["exp_avg_sq"]["0.weight"]
    assert last[0, 0] == 0
    found, exact = (smoothed(run, trajectory, task, c) for c in ("smoothed_hessian", "hessian"))
    assert 0 < np.abs(found - exact).max() < 0.5 * np.abs(exact).max()


def test_smoothed_hessian_is_the_mean_change_of_a_gradient_over_a_wide_move():
    """Mean of relu(x + b) over standard normal x: the gradient's slope by b is their density."""
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    with SoftKinks(SMOOTHING):
        value = functional.relu(x[:, None] + b).mean()
    (slope,) = torch.autograd.grad(value, b, create_graph=True)
    (bend,) = torch.autograd.grad(slope, b)
    moved = [(x + b.detach() + d > 0).double().mean() for d in (-0.2, 0.2)]
    density = math.exp(-(0.3**2) / 2) / math.sqrt(2 * math.pi)
    assert float(bend) == pytest.approx(density, rel=0.05)
    assert float(bend) == pytest.approx(float(moved[1] - moved[0]) / 0.4, rel=0.05)
