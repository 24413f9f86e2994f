"""Eigenvectors from few rows, and LoGra with fewer rows than projected coordinates."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import LoGra
from influencekit.curvature.layers import _layer_projections, _row_systems
from influencekit.curvature.layers._row_systems import eigenvectors_of_rows

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
D = 40


def random(n, d, seed=0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


ROWS = {
    "few": random(12, D),
    "many": random(90, D),
    "graded": random(20, D) * torch.logspace(0, -9, D, dtype=torch.float64),
    "deficient": random(18, 3) @ random(3, D, 1),
    "twice": random(9, D).repeat(2, 1),
    "one": random(1, D),
    "zero": torch.zeros(4, D, dtype=torch.float64),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ROWS)
def test_the_decomposition_is_that_of_the_sum(name, dtype):
    rows = ROWS[name].to(dtype)
    weights = torch.linspace(0, 1, len(rows), dtype=torch.float64)
    values, vectors = eigenvectors_of_rows(rows, weights)
    exact = (rows.double() * weights[:, None]).mT @ rows.double()
    size = float(exact.abs().max()) + 1e-300
    assert bool((values.diff() >= -1e-14 * size).all())
    eye = torch.eye(D, dtype=torch.float64)
    torch.testing.assert_close(vectors.mT @ vectors, eye, rtol=0, atol=1e-12)
    found = (vectors * values) @ vectors.mT
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12 * size)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(exact), rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("share", [1e-10, 1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("name", ROWS)
def test_damped_inverses_of_the_rows(name, share):
    rows = ROWS[name]
    weights = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)
    exact = (rows * weights[:, None]).mT @ rows
    damping = share * (float(exact.diagonal().max()) or 1.0)
    values, vectors = eigenvectors_of_rows(rows, weights)
    solved = torch.linalg.solve(exact + damping * torch.eye(D, dtype=torch.float64), rows.mT)
    moved = rows @ vectors
    expected = rows @ solved
    found = (moved / (values + damping)) @ moved.mT
    room = 1e-13 / share * float(expected.abs().max()) + 1e-9
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=room)


# -- LoGra -------------------------------------------------------------------------------------


def problem(n=10, dtype=torch.float64):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    x = random(n + 4, 6, 2).to(dtype)
    y = torch.arange(n + 4) % 3
    return net, x, y


def dense_scores(net, x, y, n, damping, weights):
    """Of the exact empirical Fisher matrix of each layer, float64."""
    layers = [list(module.parameters()) for module in net if isinstance(module, nn.Linear)]
    total = 0
    for own in layers:
        rows = []
        for i in range(len(x)):
            loss = nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, own)]))
        rows = torch.stack(rows)
        train, queries = rows[:n], rows[n:]
        share = weights / weights.sum()
        matrix = (train * share[:, None]).mT @ train
        matrix += damping * torch.eye(len(matrix), dtype=torch.float64)
        total = total + queries @ torch.linalg.solve(matrix, (train * share[:, None]).mT)
    return total.numpy()


@pytest.mark.parametrize("damping", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("weighted", [False, True])
def test_full_rank_is_the_exact_matrix_of_each_layer(damping, init, weighted):
    n = 10
    net, x, y = problem(n)
    weights = torch.arange(1.0, n + 1, dtype=torch.float64) if weighted else torch.ones(n).double()
    curvature = LoGra(rank=99, rows="fisher", init=init)
    influence = InfluenceFunction(curvature, damping=damping, output="neg_loss", random_state=0)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    given = {"sample_weight": weights.numpy()} if weighted else {}
    found = influence.fit(task, x[:n], y[:n], **given).score(x[n:], y[n:])
    expected = dense_scores(net, x, y, n, damping, weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("blocks", ["layers", "all"])
def test_few_rows_and_sums_agree(blocks, monkeypatch):
    net, x, y = problem()
    task = as_task(net, loss=nn.CrossEntropyLoss())

    def fitted():
        curvature = LoGra(rank=5, rows="fisher", blocks=blocks)
        return InfluenceFunction(curvature, random_state=0).fit(task, x[:10], y[:10])

    few = fitted()
    monkeypatch.setattr(_row_systems, "_FEW", 0)
    sums = fitted()
    np.testing.assert_allclose(few.damping_, sums.damping_, rtol=1e-8)
    top = sums.eigenvalues_.max()
    np.testing.assert_allclose(few.eigenvalues_, sums.eigenvalues_, rtol=0, atol=1e-13 * top)
    np.testing.assert_allclose(few.score(x[10:], y[10:]), sums.score(x[10:], y[10:]), rtol=1e-6)


def test_random_signs_are_drawn_once_where_there_is_room(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    task = as_task(net, loss=nn.CrossEntropyLoss())
    _, x, y = problem(dtype=torch.float32)
    drawn, plain = [], _layer_projections.random_rows

    def counted(law, *args):
        drawn.append(law)
        return plain(law, *args)

    monkeypatch.setattr(_layer_projections, "random_rows", counted)
    curvature = LoGra(rank=2, rows="fisher", init="random")
    influence = InfluenceFunction(curvature, damping=0.1, batch_size=2, random_state=0)
    influence.fit(task, x[:10], y[:10])
    scores = influence.score(x[10:], y[10:])
    assert drawn.count("rademacher") == 1
    again = pickle.loads(pickle.dumps(influence))
    assert (again.score(x[10:], y[10:]) == scores).all()
    drawn.clear()
    monkeypatch.setattr(_layer_projections.LayerProjections, "_signs", _unkept)
    bare = InfluenceFunction(curvature, damping=0.1, batch_size=2, random_state=0)
    assert (bare.fit(task, x[:10], y[:10]).score(x[10:], y[10:]) == scores).all()


def _unkept(self, name, start, stop, like):
    draw = _layer_projections.random_rows
    return draw("rademacher", self.seed, name, start, stop, like.shape[1], like)
