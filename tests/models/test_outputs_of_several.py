"""Models of several outputs and targets: what functions of outputs get, averages of a run."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot, GroupAttributor, InfluenceFunction, RunAverage, as_task

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(16, 5)))
Y = torch.from_numpy(RNG.integers(0, 3, 16)), torch.from_numpy(RNG.normal(size=(16, 1)))
K = 12


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.classes, self.value = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x):
        z = torch.tanh(self.body(x))
        return self.classes(z), self.value(z)


def both(outputs, targets):
    return F.cross_entropy(outputs[0], targets[0]) + F.mse_loss(outputs[1], targets[1])


def flat(values):
    return torch.cat([value.flatten() for value in values])


def gradients(net, value_of, rows):
    """Gradients of a number of each example, one example at a time."""
    found = []
    for i in rows:
        one = net(X[i : i + 1]), tuple(y[i : i + 1] for y in Y)
        parts = torch.autograd.grad(value_of(i, *one), tuple(net.parameters()), allow_unused=True)
        pairs = zip(parts, net.parameters(), strict=True)
        found.append(flat([torch.zeros_like(p) if g is None else g for g, p in pairs]))
    return torch.stack(found)


def slope(net, i):
    """Gradient of minus the loss by all outputs of one example."""
    outputs = [z.detach().requires_grad_() for z in net(X[i : i + 1])]
    return flat(torch.autograd.grad(-both(outputs, [y[i : i + 1] for y in Y]), outputs))


@pytest.fixture(scope="module")
def nets():
    """A net at three weights."""
    torch.manual_seed(0)
    found = [TwoHeads().double() for _ in range(3)]
    for net in found:
        net.load_state_dict({k: v + torch.randn_like(v) for k, v in net.state_dict().items()})
    return found


@pytest.mark.parametrize("slopes", ["mean", "end", "own", "unit"])
def test_averages_along_a_run(nets, slopes):
    task, states = as_task(nets[-1], loss=both), [net.state_dict() for net in nets]
    run = RunAverage(GradDot(), checkpoints=states, slopes=slopes)
    run.fit(task, X[:K], tuple(y[:K] for y in Y))
    got = run.score(X[K:], tuple(y[K:] for y in Y))
    own = torch.stack([torch.stack([slope(net, i) for net in nets]) for i in range(K, 16)])
    length = own.norm(dim=2, keepdim=True)
    typical = {"mean": (own / length).mean(1) * length.mean(1), "end": own[:, -1]}
    want = 0
    for k, net in enumerate(nets):
        used = typical.get(slopes, own[:, k])
        queries = gradients(net, lambda i, z, _, s=used: flat(z) @ s[i - K], range(K, 16))
        scores = -queries @ gradients(net, lambda _, z, y: both(z, y), range(K)).T
        scores = scores / scores.norm(dim=1, keepdim=True) if slopes == "unit" else scores
        want = want + scores.numpy() / len(nets)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_a_property_gets_what_the_loss_gets(nets):
    net = nets[-1]
    task = as_task(net, loss=both)
    rows = GroupAttributor(GradDot(), property=lambda z, y: z[1].mean() - y[1].mean())
    rows.fit(task, X[:K], tuple(y[:K] for y in Y), groups=np.arange(K))
    got = rows.score(X[K:], tuple(y[K:] for y in Y))
    value = gradients(net, lambda _i, z, _y: z[1].mean() / 4, range(K, 16)).sum(0)
    want = -gradients(net, lambda _, z, y: both(z, y), range(K)) @ value
    np.testing.assert_allclose(got.ravel(), want.numpy(), rtol=1e-9, atol=1e-12)


def test_slopes_of_nearly_certain_classes():
    # In float32 the probability of these classes rounds to 1.
    torch.manual_seed(0)
    net, x, y = nn.Linear(5, 3), X.float(), Y[0]
    certain = 25 * F.one_hot(y[K:], 3).float() + torch.randn(4, 3)
    net.weight.data = torch.linalg.lstsq(x[K:], certain).solution.T
    net.bias.data.zero_()
    state = net.state_dict()
    run = RunAverage(InfluenceFunction("fisher", 0.1), checkpoints=[state, state])
    run.fit(as_task(net, nn.CrossEntropyLoss()), x[:K], y[:K])
    got = run.score(x[K:], y[K:])
    wide = nn.Linear(5, 3).double()
    wide.load_state_dict({k: v.double() for k, v in state.items()})

    def gradient(i):
        loss = F.cross_entropy(wide(X.float().double()[i : i + 1]), y[i : i + 1])
        return flat(torch.autograd.grad(loss, tuple(wide.parameters())))

    rows, queries = (torch.stack([gradient(i) for i in r]) for r in (range(K), range(K, 16)))
    fisher = rows.T @ rows / K + 0.1 * torch.eye(rows.shape[1], dtype=torch.float64)
    want = queries @ torch.linalg.solve(fisher, rows.T) / K
    error = abs(got - want.numpy()).max(axis=1) / abs(want.numpy()).max(axis=1)
    assert error.max() < 1e-3
