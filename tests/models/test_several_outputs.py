"""Modules with several outputs, and several targets: the loss gets them as in training."""

from __future__ import annotations

import pickle
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from skorch import NeuralNet
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.exceptions import UnsupportedModelError
from tests._shared.marks import NOT_TRAINED
from tests.curvature._plain_reference import loss_gradients, relative_error

pytestmark = NOT_TRAINED
torch.manual_seed(0)
N = 12
X, Y, T = torch.randn(16, 4), torch.randint(0, 3, (16,)), torch.randn(16, 1)
SIDES = torch.randint(0, 2, (16,)) * 2.0 - 1.0


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)


Named = namedtuple("Named", "features logits")
Other = namedtuple("Other", "features scores")


@dataclass
class Normal:
    mean: torch.Tensor
    var: torch.Tensor
    note: str = "not a tensor"


class Holder:
    def __init__(self, features, logits):
        self.features, self.logits = features, logits


class Pair(Base):
    def forward(self, x):
        z = self.a(x)
        return z[:, :1], F.softplus(z[:, 1:2])


class AsDataclass(Base):
    def forward(self, x):
        z = self.a(x)
        return Normal(z[:, :1], F.softplus(z[:, 1:2]))


class Autoencoder(Base):
    def forward(self, x):
        mean, log_var = self.a(x).chunk(2, 1)
        decoded = F.linear(torch.tanh(mean), self.b.weight[:, :3].T @ self.b.weight[:, 3:])
        return {"decoded": decoded, "code": {"mean": mean, "log_var": log_var}}


class Twins(Base):
    def forward(self, x):
        return self.a(x), self.a(x.flip(1))


class Heads(Base):
    def forward(self, x):
        z = torch.tanh(self.a(x))
        return self.b(z), z[:, :1]


class Steps(nn.Module):
    """Log-probabilities of four steps, and how many of them count."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 12)

    def forward(self, x):
        return self.a(x).view(-1, 4, 3).log_softmax(-1), torch.full((len(x),), 4)


class Form(Base):
    """Features and logits in a form of their own."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        z = torch.tanh(self.a(x))
        return self.form(z, self.b(z))


def vae(o, x):
    mean, log_var = o["code"]["mean"], o["code"]["log_var"]
    kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1)
    return (o["decoded"] - x[:, : o["decoded"].shape[1]]).square().sum(1) + kl


def both(o, y):
    return F.cross_entropy(o[0], y[0]) + F.mse_loss(o[1], y[1])


def both_by_name(o, y):
    return F.cross_entropy(o[0], y["label"]) + F.mse_loss(o[1], y["value"])


def ctc(o, y):
    return F.ctc_loss(o[0].transpose(0, 1), y[0], o[1], y[1], reduction="none")


def sparse_code(o, y):
    return F.cross_entropy(o[0], y) + 0.1 * o[1].abs().mean()


def named(o, y):
    return F.cross_entropy(o.scores, y) + 0.1 * o.features.square().mean()


WORDS = (torch.randint(1, 3, (16, 2)), torch.randint(1, 3, (16,)))
CASES = {
    "pair": (Pair(), lambda o, t: F.gaussian_nll_loss(o[0], t, o[1]), T),
    "dataclass": (AsDataclass(), lambda o, t: F.gaussian_nll_loss(o.mean, t, o.var), T),
    "vae": (Autoencoder(), vae, X),
    "heads, tuple": (Heads(), both, (Y, T)),
    "heads, dict": (Heads(), both_by_name, {"label": Y, "value": T}),
    "ctc": (Steps(), ctc, WORDS),
    "term of the code": (Heads(), sparse_code, Y),
    "named": (Form(Other), named, Y),
}
CRITERIA = {
    "gaussian": (Pair(), nn.GaussianNLLLoss(), lambda o, t: F.gaussian_nll_loss(o[0], t, o[1]), T),
    "cosine": (
        Twins(),
        nn.CosineEmbeddingLoss(0.1),
        lambda o, t: F.cosine_embedding_loss(o[0], o[1], t, 0.1),
        SIDES,
    ),
}


def some(value, rows):
    if isinstance(value, tuple):
        return tuple(item[rows] for item in value)
    if isinstance(value, dict):
        return {key: item[rows] for key, item in value.items()}
    return value[rows]


def check(net, loss, plain, y):
    G = loss_gradients(net, plain, X, y, 16)
    task = as_task(net, loss=loss)
    train, test = slice(0, N), slice(N, None)
    found = GradDot(batch_size=5).fit(task, X[train], some(y, train))
    expected = (G[N:] @ G[:N].T).numpy()
    assert relative_error(found.score(X[test], some(y, test)), expected) < 1e-5
    how = InfluenceFunction("fisher", 0.1).fit(task, X[train], some(y, train))
    damped = G[:N].T @ G[:N] / N + 0.1 * torch.eye(G.shape[1]).double()
    expected = (G[N:] @ torch.linalg.solve(damped, G[:N].T) / N).numpy()
    assert relative_error(how.score(X[test], some(y, test)), expected) < 1e-4
    ggn = InfluenceFunction(damping=0.1).fit(task, X[train], some(y, train))
    assert abs(ggn.score(X[test], some(y, test))).max() > 0


@pytest.mark.filterwarnings("ignore:.*have no effect on the outputs")  # b
@pytest.mark.parametrize("name", CASES)
def test_a_function_gets_all_outputs_and_targets(name):
    net, loss, y = CASES[name]
    check(net, loss, loss, y)


@pytest.mark.filterwarnings("ignore:.*have no effect on the outputs")  # b
@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_gets_them_in_its_order(name):
    check(*CRITERIA[name])


@pytest.mark.parametrize(
    "form", [Named, Holder, lambda z, logits: {"features": z, "logits": logits}]
)
def test_a_criterion_of_one_output_gets_the_logits(form):
    net = Form(form)
    check(net, nn.CrossEntropyLoss(), lambda o, y: F.cross_entropy(_logits(o), y), Y)


def _logits(output):
    return output["logits"] if isinstance(output, dict) else output.logits


@pytest.mark.parametrize("form", [Other, lambda z, s: {"features": z, "scores": s}])
def test_no_entry_is_taken_by_luck(form):
    with pytest.raises(UnsupportedModelError, match="entries: 'features', 'scores'"):
        GradDot().fit(as_task(Form(form), loss=nn.CrossEntropyLoss()), X, Y)


def test_a_function_of_the_first_output_still_gets_that():
    loss = lambda z, y: F.cross_entropy(z, y, reduction="none")  # noqa: E731
    check(Heads(), loss, lambda o, y: loss(o[0], y), Y)


CE = nn.CrossEntropyLoss()
UNNAMED = {
    "after features": (lambda z, s: (z, s), 1, CE, Y),
    "before features": (lambda z, s: (s, z), 0, CE, Y),
    "after a list": (lambda z, s: ([z, z], s), 1, CE, Y),
    "beside classes": (lambda z, s: [s.argmax(1), s], 1, CE, Y),
    "alone": (lambda z, s: (None, s), 1, CE, Y),
    "nested": (lambda z, s: (z, (s,)), (1, 0), CE, Y),
    "features of as many columns": (lambda z, s: (z[:, :3], s), 1, CE, Y),
    "the column of the targets": (lambda z, s: (z, s[:, 1:2]), 1, nn.MSELoss(), T),
    "a function": (lambda z, s: (z, s), 1, lambda o, y: F.cross_entropy(o, y), Y),
    "another criterion": (lambda z, s: (z, s[:, :1]), 1, nn.PoissonNLLLoss(), T.abs()),
}


@pytest.mark.parametrize("name", UNNAMED)
def test_an_output_without_a_name_is_the_one_that_is_proved(name):
    form, place, loss, y = UNNAMED[name]

    def entry(o):
        for i in place if isinstance(place, tuple) else (place,):
            o = o[i]
        return o

    check(Form(form), loss, lambda o, y: loss(entry(o), y), y)


class TwoNets(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.a(x), self.b(x)


@pytest.mark.parametrize(
    ("net", "loss", "y", "count"),
    [
        (TwoNets(), CE, Y, "not one"),
        (Form(lambda z, s: (s, s.softmax(1))), CE, Y, "several"),
        (Form(lambda z, s: (z, z)), nn.MSELoss(), T, "not one"),
    ],
)
def test_else_none_is_taken(net, loss, y, count):
    with pytest.raises(UnsupportedModelError, match=f"{count} of them can be what"):
        GradDot().fit(as_task(net, loss=loss), X, y)


def test_explained_outputs_get_the_whole_too():
    net, loss, y = CASES["named"]
    how = GradDot(output=lambda o, _: o.scores[:, 1]).fit(as_task(net, loss=loss), X, y)
    G = loss_gradients(net, loss, X, y, 16)
    slopes = loss_gradients(net, lambda o, _: o.scores[:, 1], X, y, 16)
    assert relative_error(how.score(X, y), -(slopes @ G.T).numpy()) < 1e-5


def test_a_dataset_yields_several_targets():
    data = [(x, (label, value)) for x, label, value in TensorDataset(X, Y, T)]
    task = as_task(Heads(), loss=both)
    from_arrays = GradDot().fit(task, X, (Y, T)).score(X, (Y, T))
    rows = torch.utils.data.StackDataset(X, torch.utils.data.StackDataset(Y, T))
    assert len(data) == len(rows)
    torch.testing.assert_close(GradDot().fit(task, rows).score(rows), from_arrays)


def test_several_targets_need_a_loss_that_takes_them():
    with pytest.raises(TypeError, match="y: got a tuple of 2 arrays"):
        GradDot().fit(as_task(Heads(), loss=nn.CrossEntropyLoss()), X, (Y, T))
    with pytest.raises(ValueError, match=r"y\[1\]: got 3 rows for 16 examples"):
        GradDot().fit(as_task(Heads(), loss=both), X, (Y, T[:3]))


class WithCode(NeuralNet):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        loss = super().get_loss(y_pred[0], y_true, *args, **kwargs)
        return loss + 0.1 * y_pred[1].abs().mean()


class WithWeights(NeuralNet):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        loss = super().get_loss(y_pred[0], y_true, *args, **kwargs)
        return loss + 0.1 * self.module_.a.weight.abs().sum()


class WithInputs(NeuralNet):
    def get_loss(self, y_pred, y_true, X=None, **kwargs):
        return super().get_loss(y_pred[0], y_true, **kwargs) + X.abs().mean()


def trained(kind):
    net = kind(Heads, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0)
    return net.fit(X.numpy(), Y.numpy())


def test_the_objective_of_a_skorch_net_is_its_get_loss():
    net = trained(WithCode)
    task = pickle.loads(pickle.dumps(as_task(net)))
    G = loss_gradients(net.module_, sparse_code, X, Y, 16)
    found = GradDot().fit(task, X.numpy(), Y.numpy()).score(X.numpy(), Y.numpy())
    assert relative_error(found, (G @ G.T).numpy()) < 1e-5


@pytest.mark.parametrize(
    ("kind", "what"), [(WithWeights, "the module"), (WithInputs, "the inputs X")]
)
def test_an_objective_of_more_than_outputs_and_targets_is_refused(kind, what):
    with pytest.raises(UnsupportedModelError, match=f"get_loss of {kind.__name__} reads {what}"):
        GradDot().fit(trained(kind), X.numpy(), Y.numpy())
