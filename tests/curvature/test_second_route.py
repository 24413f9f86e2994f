"""Products with curvature matrices of models without forward-mode derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import ConjugateGradient, LiSSA
from influencekit.exceptions import ConvergenceWarning, ResourceError
from tests._shared.marks import NOT_TRAINED
from tests.curvature._plain_reference import (
    gauss_newton,
    hessian,
    loss_gradients,
    relative_error,
    scores,
)

pytestmark = NOT_TRAINED
CE = nn.CrossEntropyLoss()
N, DAMPING = 10, 0.3


class Last(nn.Module):
    """Classes from the last step of a recurrent layer, or from any other layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(3, 3)

    def forward(self, x):
        z = self.layer(x)
        return self.head(z[0][:, -1] if isinstance(z, tuple) else z)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(checkpoint(lambda z: torch.tanh(self.a(z)), x, use_reentrant=False))


class Packed(nn.Module):
    """Rows of several lengths, the last of which is padding."""

    def __init__(self):
        super().__init__()
        self.r, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        lengths = torch.full((len(x),), x.shape[1] - 1)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.head(self.r(packed)[1][0][-1])


def case(name):
    torch.manual_seed(7)
    steps, flat = torch.randn(14, 4, 2), torch.randn(14, 4)
    tokens, weights = torch.randint(0, 5, (14, 4)), nn.utils.parametrizations.weight_norm
    made = {
        "lstm": (Last(nn.LSTM(2, 3, batch_first=True)), steps),
        "gru": (Last(nn.GRU(2, 3, batch_first=True)), steps),
        "packed": (Packed(), steps),
        "bag": (Last(nn.EmbeddingBag(5, 3)), tokens),
        "weight_norm": (Last(weights(nn.Linear(4, 3))), flat),
        "checkpoint": (Checkpointed(), flat),
    }
    return *made[name], torch.randint(0, 3, (14,))


NAMES = ["lstm", "gru", "packed", "bag", "weight_norm", "checkpoint"]


@pytest.mark.parametrize("name", NAMES)
def test_gauss_newton_products(name):
    net, X, y = case(name)
    expected = scores(loss_gradients(net, CE, X, y, 14), gauss_newton(net, CE, X, y, N), DAMPING, N)
    task = as_task(net.double(), loss=CE)
    X = X.double() if X.is_floating_point() else X
    for curvature in (ConjugateGradient(rtol=1e-9), "arnoldi"):
        how = InfluenceFunction(curvature, DAMPING, random_state=0).fit(task, X[:N], y[:N])
        assert relative_error(how.score(X[N:], y[N:]), expected) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_hessian_products(name):
    net, X, y = case(name)
    same = net  # second derivatives by an equal net that has right ones
    if name == "bag":
        same = nn.Sequential(nn.Embedding(5, 3), _Mean(), nn.Linear(3, 3))
        same[0].load_state_dict(net.layer.state_dict())
        same[2].load_state_dict(net.head.state_dict())
    if name == "weight_norm":
        same = nn.Sequential(_Normed(*net.layer.parameters()), net.head)
    torch._C._set_mkldnn_enabled(False)
    try:
        H = hessian(same, CE, X, y, N)
    finally:
        torch._C._set_mkldnn_enabled(True)
    damping = max(0.3, 1.5 * -float(torch.linalg.eigvalsh(H)[0]))
    expected = scores(loss_gradients(net, CE, X, y, 14), H, damping, N)
    X = X.double() if X.is_floating_point() else X
    how = InfluenceFunction(ConjugateGradient("hessian", rtol=1e-9), damping, random_state=0)
    how.fit(as_task(net.double(), loss=CE), X[:N], y[:N])
    assert relative_error(how.score(X[N:], y[N:]), expected) < 1e-6


class _Normed(nn.Module):
    """A linear layer with the direction and the length of its rows, in torch's plain steps."""

    def __init__(self, bias, lengths, directions):
        super().__init__()
        self.bias, self.lengths, self.directions = bias, lengths, directions

    def forward(self, x):
        rows = self.directions / self.directions.square().sum(1, keepdim=True).sqrt()
        return F.linear(x, self.lengths * rows, self.bias)


class _Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def test_loss_without_second_derivative():
    """A CTC loss: neither forward mode nor a second backward pass."""
    torch.manual_seed(8)
    net = nn.Sequential(nn.Linear(4, 15), nn.Unflatten(1, (5, 3))).double()
    X, y = torch.randn(12, 4).double(), torch.randint(1, 3, (12, 2))

    def ctc(o, t):
        sizes = torch.full((len(o),), 5), torch.full((len(o),), 2)
        return F.ctc_loss(o.log_softmax(-1).transpose(0, 1), t, *sizes, reduction="none")

    def enumerated(o, t):
        """The same, summed over all paths."""
        logs, total = o.log_softmax(-1)[0], []
        for path in torch.cartesian_prod(*[torch.arange(3)] * 5):
            seen = torch.unique_consecutive(path)
            if torch.equal(seen[seen > 0], t[0]):
                total.append(logs[torch.arange(5), path].sum())
        return -torch.logsumexp(torch.stack(total), 0)

    H = hessian(net, enumerated, X, y, N)  # linear in the parameters: Gauss-Newton as well
    damping = max(0.3, 1.5 * -float(torch.linalg.eigvalsh(H)[0]))
    expected = scores(loss_gradients(net, ctc, X, y, 12), H, damping, N)
    how = InfluenceFunction(ConjugateGradient("hessian", rtol=1e-8), damping, random_state=0)
    how.fit(as_task(net, loss=ctc), X[:N], y[:N])
    assert relative_error(how.score(X[N:], y[N:]), expected) < 1e-5


def short_problem():
    """A feature whose directions hardly curve."""
    torch.manual_seed(9)
    X = torch.randn(20, 2) * torch.tensor([1.0, 1e-3])
    return as_task(nn.Linear(2, 3), loss=CE), X, torch.randint(0, 3, (20,))


def test_a_series_of_batches_that_is_too_long_is_refused_before_it_runs():
    task, X, y = short_problem()
    how = InfluenceFunction(LiSSA(rows_per_step=5), 1e-5, random_state=0).fit(task, X, y)
    with pytest.raises(
        ResourceError, match=r"^damping: at [\d.e-]+, LiSSA needs about [\d.e+]+ terms"
    ):
        how.score(X[:2], y[:2])


def test_a_series_on_all_examples_stops_when_its_rate_is_too_slow():
    task, X, y = short_problem()
    series = LiSSA(rows_per_step=None, rtol=1e-6)
    how = InfluenceFunction(series, 1e-7, random_state=0).fit(task, X, y)
    with (
        pytest.warns(ConvergenceWarning, match="LiSSA takes up to 10,000 terms"),
        pytest.raises(ResourceError, match=r"After \d+ terms it is"),
    ):
        how.score(X[:2], y[:2])
