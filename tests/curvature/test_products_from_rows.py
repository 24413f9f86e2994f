"""Gauss-Newton products from rows, which are taken where outputs are fewer than positions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import ConjugateGradient, CurvatureProblem, LiSSA
from influencekit.curvature._operators import CurvatureOperator
from influencekit.curvature._second_route import RowProducts
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from influencekit.utils._torch import flop_counter
from tests._shared.marks import NOT_TRAINED
from tests.curvature._plain_reference import (
    gauss_newton,
    loss_gradients,
    relative_error,
    scores,
)

pytestmark = NOT_TRAINED
CE, N = nn.CrossEntropyLoss(), 9


class Tokens(nn.Module):
    def __init__(self, n_outputs=2):
        super().__init__()
        self.table, self.map = nn.Embedding(7, 4), nn.Linear(4, 6)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, n_outputs)

    def forward(self, x):
        return self.head(self.norm(torch.tanh(self.map(self.table(x)))).mean(1))


def case(name):
    torch.manual_seed(3)
    if name == "cnn":
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(18, 2)
        )
        return net, torch.randn(14, 1, 6, 6), torch.randint(0, 2, (14,))
    return Tokens(), torch.randint(0, 7, (14, 12)), torch.randint(0, 2, (14,))


def problem_of(net, X, y, **engine):
    task = as_task(net, loss=CE)
    engine, examples = GradientEngine(task, **engine), make_examples(task, X, y)
    train = Gradients(engine, examples, loss_cotangent(task))
    weights = torch.full((len(X),), 1 / len(X), dtype=torch.float64)
    return CurvatureProblem(train, weights, torch.zeros(task.n_parameters).double())


@pytest.mark.parametrize("budget", [None, "1MB", 3_000])
@pytest.mark.parametrize("name", ["cnn", "tokens"])
def test_products_equal_dense(name, budget):
    net, X, y = case(name)
    net.double()
    X = X.double() if X.is_floating_point() else X
    operator = CurvatureOperator(problem_of(net, X[:N], y[:N], max_memory=budget))
    dense = gauss_newton(net, CE, X, y, N)
    vectors = torch.randn(5, len(dense), dtype=torch.float64)
    assert relative_error(operator.data(vectors), vectors @ dense) < 1e-12
    assert isinstance(operator._second, RowProducts) == (budget != 3_000)
    some = torch.tensor([0, 4, 7])
    expected = vectors @ gauss_newton(net, CE, X[some], y[some], 3)
    assert relative_error(operator.data(vectors, some), expected) < 1e-12
    again = pickle.loads(pickle.dumps(operator))
    assert again._second is None
    torch.testing.assert_close(again.data(vectors), operator.data(vectors), rtol=1e-12, atol=0)


@pytest.mark.parametrize("solver", [ConjugateGradient(rtol=1e-9), LiSSA(rows_per_step=None)])
@pytest.mark.parametrize("name", ["cnn", "tokens"])
def test_scores_equal_dense(name, solver):
    net, X, y = case(name)
    expected = scores(loss_gradients(net, CE, X, y, 14), gauss_newton(net, CE, X, y, N), 0.3, N)
    X = X.double() if X.is_floating_point() else X
    solver.set_params(rtol=1e-9)
    how = InfluenceFunction(solver, 0.3, random_state=0).fit(
        as_task(net.double(), loss=CE), X[:N], y[:N]
    )
    assert relative_error(how.score(X[N:], y[N:]), expected) < 1e-6


def chosen(net, X, y, matrix="ggn", **engine):
    operator = CurvatureOperator(problem_of(net, X, y, **engine), matrix)
    operator.data(torch.randn(2, operator.problem.engine.task.n_parameters))
    return isinstance(operator._second, RowProducts)


def test_who_takes_rows():
    net, X, y = case("cnn")
    assert chosen(net, X, y)
    assert not chosen(net, X, y, "hessian")
    assert not chosen(net, X, y, max_memory=3_000)  # rows of all examples would take more
    assert not chosen(copy.deepcopy(net).bfloat16(), X, y)  # rows would be rounded
    assert not chosen(nn.Linear(36, 5), X.flatten(1), y)  # one position and five outputs
    assert not chosen(Tokens(60), *case("tokens")[1:])
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    encoder = nn.Sequential(nn.TransformerEncoder(layer, 1), nn.Flatten(), nn.Linear(48, 2))
    assert chosen(encoder, torch.randn(9, 12, 4), y[:9])  # a fused kernel hides its operations


def test_products_take_no_passes_over_the_examples(monkeypatch):
    net, X, y = case("cnn")
    operator = CurvatureOperator(problem_of(net, X, y))
    vectors = torch.randn(3, operator.problem.engine.task.n_parameters)
    first = operator.data(vectors)
    monkeypatch.setattr(type(operator.problem.engine.task), "forward", None)
    assert torch.equal(operator.data(vectors), first)


def test_counting_leaves_other_threads_alone():
    layer, x = torch.nn.Linear(3, 2), torch.ones(4, 3)
    hooks = torch.nn.modules.module._global_forward_hooks
    with flop_counter() as counter:
        before = len(hooks)
        layer(x)
    assert (before, counter.get_total_flops()) == (0, 2 * 4 * 3 * 2)
