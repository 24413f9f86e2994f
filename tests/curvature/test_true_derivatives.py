"""Layers whose derivatives in torch are not those of their outputs, against plain formulas."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.curvature import Arnoldi, ConjugateGradient, Hessian
from tests._shared.marks import NOT_TRAINED

pytestmark = [
    NOT_TRAINED,
    pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning"),
]
N, DAMPING = 10, 0.1
METHODS = {
    "hessian": InfluenceFunction(Hessian(negative="absolute"), DAMPING),
    "cg": InfluenceFunction(ConjugateGradient(rtol=1e-10), DAMPING),
    "arnoldi": InfluenceFunction(Arnoldi(rank=60), DAMPING, random_state=0),
}


class Words(nn.Module):
    """A classifier of words; the last row of the embedding is padding, and its slope is 0."""

    def __init__(self, **options):
        super().__init__()
        self.words, self.head = nn.Embedding(4, 2, **options), nn.Linear(2, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.words(x)).sum(1))


class Tied(nn.Module):
    """A language model, whose table of words has slopes where it gives the outputs."""

    def __init__(self, **options):
        super().__init__()
        self.words = nn.Embedding(4, 2, **options)

    def forward(self, x):
        return torch.tanh(self.words(x)).sum(1) @ self.words.weight.T


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = weight_norm(nn.Linear(3, 3)), weight_norm(nn.Linear(3, 3), dim=None)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Doubled(nn.Module):
    """A hook doubles the gradient that goes back to the first layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        z = torch.tanh(self.a(x))
        if z.requires_grad:
            z.register_hook(lambda g: 2 * g)
        return self.b(z)


def words(own, x):
    """The formula, with a constant row where padding stands."""
    table = own["words.weight"]
    table = torch.cat([table[:3], table[3:].detach()])
    z = torch.tanh(table[x]).sum(1)
    if "head.weight" not in own:
        return z @ own["words.weight"].T
    return z @ own["head.weight"].T + own["head.bias"]


def normed(own, x):
    g, v = (own[f"a.parametrizations.weight.original{k}"] for k in (0, 1))
    z = torch.tanh(x @ (v * (g / (v**2).sum(1, keepdim=True).sqrt())).T + own["a.bias"])
    g, v = (own[f"b.parametrizations.weight.original{k}"] for k in (0, 1))
    return z @ (v * (g / (v**2).sum().sqrt())).T + own["b.bias"]


def expected(net, formula, X, y, matrix):
    own = dict(net.named_parameters())

    def flat(value, graph=False):
        found = torch.autograd.grad(
            value, list(own.values()), retain_graph=True, create_graph=graph
        )
        return torch.cat([g.flatten() for g in found])

    def row(i, graph=False):
        return flat(F.cross_entropy(formula(own, X[i : i + 1]), y[i : i + 1]), graph)

    g = torch.stack([row(i) for i in range(len(y))])
    curvature = 0
    for i in range(N):
        if matrix == "hessian":
            curvature += torch.stack([flat(v) for v in row(i, True)])
        else:
            z = formula(own, X[i : i + 1])[0]
            jacobian, p = torch.stack([flat(v) for v in z]), z.softmax(0)
            curvature += jacobian.T @ (p.diag() - p[:, None] * p).detach() @ jacobian
    values, vectors = torch.linalg.eigh(curvature / N)
    curvature = (vectors * (values.abs() + DAMPING)) @ vectors.T
    return (g[N:] @ torch.linalg.solve(curvature, g[:N].T) / N).numpy()


def data():
    torch.manual_seed(0)
    return torch.randint(0, 4, (N + 2, 3)), torch.randn(N + 2, 3).double(), torch.arange(N + 2) % 3


def check(method, net, formula, X, y):
    influence = METHODS[method].fit(as_task(net, loss=nn.CrossEntropyLoss()), X[:N], y[:N])
    reference = expected(net, formula, X, y, "hessian" if method == "hessian" else "ggn")
    scores = influence.score(X[N:], y[N:])
    np.testing.assert_allclose(scores, reference, rtol=0, atol=1e-7 * abs(reference).max())


@pytest.mark.parametrize("kind", [Words, Tied])
@pytest.mark.parametrize("method", METHODS)
def test_the_row_of_padding_is_a_constant(kind, method):
    x, _, y = data()
    check(method, kind(padding_idx=-1).double(), words, x, y)


def test_weight_normalization_has_its_second_derivatives():
    _, X, y = data()
    check("hessian", Normed().double(), normed, X, y)


def test_products_see_the_hooks_of_tensors():
    _, X, y = data()
    net = Doubled().double()
    check("cg", net, lambda own, x: net(x), X, y)


def test_counts_of_words_do_not_divide_the_gradient():
    x, _, y = data()
    net = Words(scale_grad_by_freq=True).double()
    scores = (
        GradDot().fit(as_task(net, loss=nn.CrossEntropyLoss()), x[:N], y[:N]).score(x[N:], y[N:])
    )
    net.words.scale_grad_by_freq = False
    plain = (
        GradDot().fit(as_task(net, loss=nn.CrossEntropyLoss()), x[:N], y[:N]).score(x[N:], y[N:])
    )
    np.testing.assert_allclose(scores, plain)
