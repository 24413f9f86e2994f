"""Half and mixed precision against float64: losses and algebra in float32 at least."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.exceptions import UnsupportedModelError
from tests._shared.marks import NOT_TRAINED
from tests.curvature._plain_reference import gauss_newton, loss_gradients, relative_error, scores

pytestmark = [
    NOT_TRAINED,
    pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning"),
]
CE = nn.CrossEntropyLoss()
N = 50
torch.manual_seed(3)
X, Y = torch.randn(60, 12).bfloat16(), torch.randint(0, 3, (60,))


def small_net():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 3))


def fitted(net, inputs, how):
    task = as_task(net, loss=CE)
    return how.fit(task, inputs[:N], Y[:N]).score(inputs[N:], Y[N:])


@pytest.mark.parametrize("damping", [0.01, 0.001])
@pytest.mark.parametrize("curvature", ["ggn", "cg", "fisher"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_of_half_precision_are_near_float64(curvature, damping, dtype):
    net = small_net().to(dtype)
    gradients = loss_gradients(net, CE, X, Y, 60)
    if curvature == "fisher":
        matrix = gradients[:N].T @ gradients[:N] / N
    else:
        matrix = gauss_newton(net, CE, X, Y, N)
    found = fitted(net, X.to(dtype), InfluenceFunction(curvature, damping, random_state=0))
    # a solver keeps the part of rounded gradients outside the curvature's range, over a small λ
    allowed = 0.08 if curvature == "cg" and damping < 0.01 else 0.03
    assert relative_error(found, scores(gradients, matrix, damping, N)) < allowed


@pytest.mark.parametrize("curvature", ["kfac", "ekfac", "logra", "datainf", "hessian", "arnoldi"])
def test_other_curvatures_of_half_precision_agree_with_a_float64_copy(curvature):
    net, how = small_net().bfloat16(), InfluenceFunction(curvature, 0.01, random_state=0)
    expected = fitted(copy.deepcopy(net).double(), X.double(), how)
    assert relative_error(fitted(net, X, how), expected) < 0.03


def test_no_direction_is_cut_at_the_rounding_of_half_precision():
    how = InfluenceFunction("fisher", 0.01).fit(as_task(small_net().bfloat16(), loss=CE), X, Y)
    assert (how.eigenvalues_ > 0).sum() == 60


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.b(torch.tanh(self.a(x)))


class Mixed(nn.Module):
    """A body in bfloat16 and a head in float32."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 8).bfloat16(), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)).to(self.b.weight.dtype))


@pytest.mark.parametrize("kind", [Autocast, Mixed])
@pytest.mark.parametrize("curvature", ["ggn", "ekfac", "logra", "datainf", "cg", "nystroem"])
def test_factors_of_several_dtypes(kind, curvature):
    torch.manual_seed(5)
    net, how = kind(), InfluenceFunction(curvature, 0.1, random_state=0)
    expected = fitted(copy.deepcopy(net).double(), X.double(), how)
    assert relative_error(fitted(net, X.float(), how), expected) < 0.03


def test_loss_is_computed_in_float32():
    net = nn.Linear(12, 3).bfloat16()
    outputs = as_task(net, loss=CE).forward(X)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, net(X).float())


@pytest.mark.parametrize(
    "layer", [nn.Embedding(9, 4, sparse=True), nn.EmbeddingBag(9, 4, sparse=True)]
)
def test_sparse_gradients_are_dense(layer):
    tokens, labels = torch.randint(0, 9, (12, 6)), torch.randint(0, 3, (12,))
    width = 24 if isinstance(layer, nn.Embedding) else 4
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(width, 3))
    G = loss_gradients(net, CE, tokens, labels, 12)
    found = GradDot().fit(as_task(net, loss=CE), tokens[:8], labels[:8])
    assert relative_error(found.score(tokens[8:], labels[8:]), (G[8:] @ G[:8].T).numpy()) < 1e-5
    assert layer.sparse  # the user's layer is as it was


class SparseLookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.b = nn.Parameter(torch.randn(9, 4)), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.b(F.embedding(tokens, self.table, sparse=True).sum(1))


def test_sparse_gradients_of_functions_are_dense():
    tokens, labels = torch.randint(0, 9, (12, 6)), torch.randint(0, 3, (12,))
    net = SparseLookup()
    G = loss_gradients(net, CE, tokens, labels, 12)
    found = GradDot().fit(as_task(net, loss=CE), tokens[:8], labels[:8])
    assert relative_error(found.score(tokens[8:], labels[8:]), (G[8:] @ G[:8].T).numpy()) < 1e-5


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.w = nn.Linear(12, 3), nn.Parameter(torch.randn(3, dtype=torch.cfloat))

    def forward(self, x):
        return (self.a(x) * self.w).abs()


class ViewedAsComplex(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(12, 3, 2))

    def forward(self, x):
        weight = torch.view_as_complex(self.w)
        return (x.to(weight.dtype) @ weight).abs()


def test_complex_parameters_are_refused_and_their_real_form_is_right():
    with pytest.raises(UnsupportedModelError, match="'w' of Complex is complex"):
        as_task(Complex(), loss=CE)
    net, inputs = ViewedAsComplex(), X.float()
    G = loss_gradients(net, CE, inputs, Y, 60)
    assert relative_error(fitted(net, inputs, GradDot()), (G[N:] @ G[:N].T).numpy()) < 1e-5
