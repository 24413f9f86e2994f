"""Losses given as functions: one example's loss is its own, and their output Hessians."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.exceptions import ResourceError
from influencekit.models import OutputLoss
from tests._shared.marks import NOT_TRAINED
from tests.curvature._plain_reference import loss_gradients, relative_error, scores

pytestmark = NOT_TRAINED
torch.manual_seed(1)
X, T = torch.randn(24, 5), torch.randn(24, 1)
N = 16


def contrastive(z, _):
    z = F.normalize(z, dim=1)
    return F.cross_entropy(10 * z @ z.T, torch.arange(len(z)), reduction="none")


def against_the_mean(z, t):
    return ((z - z.mean(0)) ** 2).sum(1) + (z[:, 0] - t[:, 0]) ** 2


def with_the_neighbor(z, _):
    return (z - z.roll(1, 0)).square().sum(1)


def noisy(z, _):
    return (z + torch.randn_like(z)).square().sum(1)


@pytest.mark.parametrize("size", [None, 5, 1])
@pytest.mark.parametrize("loss", [contrastive, against_the_mean, with_the_neighbor, noisy])
def test_a_loss_that_mixes_examples_is_refused(loss, size):
    task = as_task(nn.Linear(5, 4), loss=loss)
    with pytest.raises(ValueError, match="changes with the other examples of the batch"):
        GradDot(batch_size=size).fit(task, X, T)


def each(z, t):
    return F.huber_loss(z[:, :1], t, reduction="none").sum(1)


WEAK = {
    "minus a mean": lambda z, t: each(z, t) - 1e-3 * each(z, t).mean(),
    "centered": lambda z, t: each(z - 1e-3 * z.mean(0), t),
    "a neighbor": lambda z, t: each(z + 1e-3 * z.roll(1, 0), t),
    "noise": lambda z, t: each(z + 1e-3 * torch.randn_like(z), t),
    "a gradient": lambda z, t: each(z, t) + 1e-3 * (z.sum() - z.sum().detach()),
    "a detached mean": lambda z, t: (each(z, t) / each(z, t).detach().mean()).mean(),
    "a term of the batch": lambda z, t: each(z, t).mean() + 1e-3 * z.mean(0).square().sum(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", WEAK)
def test_so_is_one_that_mixes_them_weakly(name, dtype):
    task = as_task(nn.Linear(5, 4).to(dtype), loss=WEAK[name])
    with pytest.raises(ValueError, match=r"changes with the other|on \d examples together"):
        GradDot().fit(task, X, T)


def by_sign(z, t):
    out = z.new_zeros(len(z))
    for chosen in (t[:, 0] > 0, t[:, 0] <= 0):
        out[chosen] = (z[chosen] @ z.new_ones(4, 3)).exp().sum(1)
    return out


ROUNDED = {
    "rows chosen": by_sign,
    "large numbers": lambda z, t: (1e4 * z[:, :1] - 1e4 * t).square().mean(),
    "float32 inside": lambda z, t: F.mse_loss(z.float() @ torch.ones(4, 1), t.float()),
    "half inside": lambda z, t: each(z.bfloat16(), t.bfloat16()).float(),
    "a small denominator": lambda z, t: each(z, t).sum() / (len(z) + 1e-8),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_is_no_mixing(name, dtype):
    task = as_task(nn.Linear(5, 4).to(dtype), loss=ROUNDED[name])
    assert GradDot().fit(task, X, T).score(X[:2], T[:2]).shape == (2, 24)


class Mixing(OutputLoss):
    def __call__(self, outputs, targets):
        return against_the_mean(outputs, targets)

    def hessian_factor(self, outputs, targets):
        raise NotImplementedError


@pytest.mark.parametrize("size", [None, 1])
def test_so_is_a_class_of_losses(size):
    with pytest.raises(ValueError, match="changes with the other examples of the batch"):
        GradDot(batch_size=size).fit(as_task(nn.Linear(5, 4), loss=Mixing()), X, T)


def test_so_is_an_explained_output():
    how = GradDot(output=lambda z, _: (z - z.mean(0)).sum(1))
    how.fit(as_task(nn.Linear(5, 1), loss=nn.MSELoss()), X, T)
    with pytest.raises(ValueError, match=r"output: an example's value changes"):
        how.score(X, T)


def test_rounding_of_a_vanishing_loss_is_no_mixing():
    net = nn.Linear(5, 2)
    with torch.no_grad():
        net.weight.mul_(1e-3)
        net.bias.copy_(torch.tensor([20.0, -20.0]))  # losses of about 1e-17
    task = as_task(net, loss=lambda z, t: F.cross_entropy(z, t, reduction="none"))
    y = torch.zeros(24, dtype=torch.long)
    assert GradDot().fit(task, X, y).score(X, y).shape == (24, 24)


def test_a_target_that_is_broadcast_is_named():
    task = as_task(nn.Linear(5, 1), loss=lambda outputs, y: F.poisson_nll_loss(outputs, y))
    with pytest.raises(ValueError, match=r"broadcasts them to \(n, n\)"):
        GradDot().fit(task, X, T[:, 0].abs())


# --- output Hessians


def gaussian(o, t):
    return F.gaussian_nll_loss(o[:, :1], t, F.softplus(o[:, 1:2]))


def reading(o, t):
    """Reads values, as many losses do to check them."""
    if float(o.detach().abs().max()) < 0:
        raise ValueError
    return ((o[:, 0] - t[:, 0]) ** 4 + o[:, 1] ** 2 * (1 + t[:, 0] ** 2)).mean()


@pytest.mark.parametrize("loss", [gaussian, reading])
def test_losses_that_read_values(loss):
    """Against the positive part of each example's output Hessian by autograd."""
    net = nn.Linear(5, 2)
    G = loss_gradients(net, loss, X, T, 24)
    wide = nn.Linear(5, 2).double()
    wide.load_state_dict(net.double().state_dict())
    total = torch.zeros(12, 12).double()
    for x, t in zip(X[:N].double(), T[:N].double(), strict=True):
        H = torch.autograd.functional.hessian(
            lambda z, t=t: loss(z[None], t[None]).sum(), wide(x).detach()
        )
        values, vectors = torch.linalg.eigh(H)
        H = vectors * values.clamp_min(0) @ vectors.T
        J = torch.zeros(2, 12).double()
        for k in range(2):
            J[k, 5 * k : 5 * k + 5], J[k, 10 + k] = x, 1.0
        total += J.T @ H @ J / N
    expected = scores(G, total, 0.1, N)
    for curvature in ("ggn", "cg"):
        how = InfluenceFunction(curvature, 0.1, random_state=0)
        how.fit(as_task(net.double(), loss=loss), X[:N].double(), T[:N].double())
        found = how.score(X[N:].double(), T[N:].double())
        assert relative_error(found, expected) < 1e-4


WEIGHTS = torch.tensor([1.0, 2.0, 3.0])  # in float32, as criteria have them


@pytest.mark.parametrize(
    "loss",
    [
        nn.MultiMarginLoss(weight=WEIGHTS),
        lambda o, t: F.multi_margin_loss(o, t, weight=WEIGHTS, reduction="none"),
    ],
)
def test_a_loss_that_is_not_for_float64(loss):
    torch.manual_seed(4)  # some outputs are near kinks of the loss
    net, y, own = nn.Linear(5, 3), torch.arange(24) % 3, nn.MultiMarginLoss(weight=WEIGHTS.double())
    G = loss_gradients(net, own, X, y, 24)
    how = InfluenceFunction("ggn", 0.5).fit(as_task(net, loss=loss), X[:N], y[:N])
    expected = (G[N:] @ G[:N].T / (0.5 * N)).numpy()
    assert relative_error(how.score(X[N:], y[N:]), expected) < 1e-3


@pytest.mark.parametrize("curvature", ["ggn", "kfac", "ekfac", "logra", "cg", "hessian"])
def test_a_piecewise_linear_loss_has_no_curvature(curvature):
    net, y = nn.Linear(5, 3).double(), torch.arange(24) % 3
    G = loss_gradients(net, nn.MultiMarginLoss(), X, y, 24)
    how = InfluenceFunction(curvature, 0.5, random_state=0)
    how.fit(as_task(net, loss=nn.MultiMarginLoss()), X[:N].double(), y[:N])
    expected = (G[N:] @ G[:N].T / (0.5 * N)).numpy()
    if curvature == "logra":  # in the layer's own projection
        assert how.score(X[N:].double(), y[N:]).shape == expected.shape
        return
    assert relative_error(how.score(X[N:].double(), y[N:]), expected) < 1e-6


def test_many_outputs_of_an_own_loss_are_refused_with_a_way_out():
    net = nn.Linear(5, 3000)
    task = as_task(net, loss=lambda o, t: (o - t).square().mean(1) + o.logsumexp(1))
    with pytest.raises(ResourceError, match="3,000 outputs per example"):
        InfluenceFunction("ggn", 0.1).fit(task, X[:4], T[:4])


# --- curvature="auto"


@pytest.mark.parametrize(
    ("loss", "n_outputs", "memory", "name"),
    [
        (nn.CrossEntropyLoss(), 100, "1MB", "ggn"),
        (nn.CrossEntropyLoss(), 120, "1GB", "ggn"),
        (nn.CrossEntropyLoss(), 120, "4MB", "sampled ggn"),
        (nn.CrossEntropyLoss(), 120, "500KB", "fisher"),
        (lambda o, t: F.cross_entropy(o, t, reduction="none"), 120, "4MB", "fisher"),
    ],
)
@pytest.mark.filterwarnings("ignore:The exact curvature")
def test_auto_takes_gauss_newton_unless_examples_have_too_many_outputs(
    loss, n_outputs, memory, name
):
    y, task = torch.arange(24) % 100, as_task(nn.Linear(5, n_outputs), loss=loss)
    how = InfluenceFunction(damping=0.1, max_memory=memory, random_state=0)
    if name == "ggn":
        how.fit(task, X, y)
    else:
        with pytest.warns(UserWarning, match=f"curvature='auto': examples have {n_outputs}"):
            how.fit(task, X, y)
    assert how.curvature_.name == name
    assert f"'{name}'" in repr(how.curvature_) and len(repr(how.curvature_)) < 100
    assert how.score(X[:2], y[:2]).shape == (2, 24)


def test_sampled_rows_come_near_the_exact_matrix():
    torch.manual_seed(3)
    Z, y = torch.randn(300, 3), torch.randint(0, 4, (300,))
    task = as_task(nn.Linear(3, 4), loss=nn.CrossEntropyLoss())
    from influencekit.curvature.exact._automatic import SampledGaussNewton

    a = InfluenceFunction(SampledGaussNewton(50), 0.1, random_state=0).fit(task, Z, y)
    b = InfluenceFunction("ggn", 0.1).fit(task, Z, y)
    assert relative_error(a.score(Z[:5], y[:5]), b.score(Z[:5], y[:5])) < 0.1
