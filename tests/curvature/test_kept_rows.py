"""Coordinates of layers with positions: dense or as factors, copied only where rows are chosen.

Scores are compared with autograd's gradients, one example at a time, and a dense inverse.
"""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import EKFAC, KFAC
from influencekit.curvature.kronecker import _binned, _spectrum, _store
from influencekit.curvature.kronecker._moments import moments_of
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._outer import OuterBlock
from tests.curvature._dense_reference import loss_gradients
from tests.curvature.test_kronecker import N, Setting

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


@pytest.mark.parametrize("worth", [0, 1e9])
@pytest.mark.parametrize("fisher", ["true", "empirical", "signs", "sampled"])
@pytest.mark.parametrize("kind", [KFAC, EKFAC])
@pytest.mark.parametrize("name", ["sequence", "conv"])
def test_scores_in_both_forms_are_those_of_the_dense_inverse(
    name, kind, fisher, worth, monkeypatch
):
    monkeypatch.setattr(_store, "_WORTH", worth)
    s = Setting(name)
    spectrum = kind(fisher, random_state=0).factorize(s.problem)
    blocks = [block for _, features in spectrum.train for block in features.blocks.values()]
    factored = [b for b in blocks if isinstance(b, OuterBlock) and b.length > 1]
    assert not (worth and factored)
    inverse = spectrum.solve(torch.eye(len(s.penalty), dtype=torch.float64), 0.1).numpy()
    g, q = s.gradients()
    wanted = -q @ inverse @ g.T * s.weights
    found = spectrum.path(s.queries).scores(0.1)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
@pytest.mark.parametrize("name", ["sequence", "conv"])
def test_queries_made_dense_once_have_the_scores_of_the_dense_inverse(name, kind, monkeypatch):
    """The training side comes in several slices."""
    s = Setting(name)
    spectrum = kind("empirical").factorize(s.problem)
    (features,) = (features for _, features in spectrum.train)
    spectrum.train = spectrum.train.kept([features[:7], features[7:20], features[20:]])
    inverse = spectrum.solve(torch.eye(len(s.penalty), dtype=torch.float64), 0.1).numpy()
    g, q = s.gradients()
    wanted = -q @ inverse @ g.T * s.weights
    for room, once in ((0, False), (2**27, True)):
        monkeypatch.setattr(_spectrum, "_QUERY_BYTES", room)
        path = spectrum.path(s.queries)
        assert path._fits == once
        np.testing.assert_allclose(path.scores(0.1), wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("has_bias", [True, False])
def test_factors_of_equal_weights_are_sums_over_examples_and_positions(has_bias):
    torch.manual_seed(0)
    a, b = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(5, 2, 3, 6, dtype=torch.float64)
    spec = BlockSpec("", (), 6, 4, has_bias)
    unequal = [0.2, 0.1, 0.3, 0.4, 0.0]
    sums = [moments_of(spec, 0, False, a[:0]) for _ in range(2)]
    sums[0].add(OuterBlock(spec, a, b), torch.full((5,), 0.2, dtype=torch.float64))
    sums[1].add(OuterBlock(spec, a, b), torch.tensor(unequal, dtype=torch.float64))
    with_one = torch.cat([a, a.new_ones(5, 3, 1)], dim=2) if has_bias else a
    for one, weights in zip(sums, ([0.2] * 5, unequal), strict=True):
        w = torch.tensor(weights, dtype=torch.float64)
        inputs = torch.einsum("i,itj,itk->jk", w, with_one, with_one)
        outputs = torch.einsum("i,irtj,irtk->jk", w, b, b)
        torch.testing.assert_close(one.inputs, inputs, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(one.outputs, outputs, rtol=1e-12, atol=1e-14)
        assert one.count == pytest.approx(3 * float(w.sum()), rel=1e-12)


@pytest.mark.parametrize("fisher", ["signs", "sampled"])
def test_eigenvalues_do_not_depend_on_the_form(fisher, monkeypatch):
    found = []
    for worth in (0, 1e9):
        monkeypatch.setattr(_store, "_WORTH", worth)
        curvature = EKFAC(fisher, random_state=0)
        found.append(curvature.factorize(Setting("sequence").problem).table)
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-14)


def test_all_rows_are_not_copied_to_choose_a_damping():
    spectrum = EKFAC("true").factorize(Setting("conv").problem)
    assert spectrum.narrow(torch.arange(N)).train is spectrum.train
    some = spectrum.narrow(torch.tensor([3, 5]))
    assert len(some.train) == 2


def test_a_net_of_convolutions_alone_gets_a_damping(monkeypatch):
    """No layer is left for the path of the others."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3), nn.AvgPool2d(2), nn.Flatten()]
    task = as_task(nn.Sequential(*layers).double(), loss=nn.MSELoss())
    X, y = torch.randn(40, 1, 6, 6, dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64)
    fitted = InfluenceFunction("ekfac").fit(task, X, y)
    rows = torch.arange(0, 40, 3)
    path = _binned.choosing_path(fitted.curvature_.narrow(torch.arange(40)), rows)
    assert isinstance(path, _binned.BinnedPath)
    monkeypatch.setattr(_binned, "dense_room", lambda _: 0)  # all coordinates, at every damping
    exact = InfluenceFunction("ekfac").fit(task, X, y)
    assert fitted.damping_ == pytest.approx(exact.damping_, rel=2e-3)


def test_notes_are_the_mean_and_norms_of_autograd():
    """Long sequences, whose dense rows are made once for both; and few positions."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Flatten()]
    task = as_task(nn.Sequential(*layers).double(), loss=nn.MSELoss())
    for length in (2, 60):
        X = torch.randn(9, length, 4, dtype=torch.float64)
        y = torch.randn(9, 3 * length, dtype=torch.float64)
        shares = torch.rand(9, dtype=torch.float64)
        given = InfluenceFunction("kfac", damping=1.0).fit(task, X, y).curvature_.problem
        engine, examples = GradientEngine(task, batch_size=4), given.examples
        g = Gradients(engine, examples, loss_cotangent(task), shares=shares)
        for _ in g:  # the pass that notes both
            pass
        wanted = torch.as_tensor(loss_gradients(task, X, y))
        torch.testing.assert_close(g.mean(), shares @ wanted, rtol=1e-10, atol=1e-13)
        norms = g.squared_norms(torch.float64)
        torch.testing.assert_close(norms, wanted.square().sum(1), rtol=1e-10, atol=1e-13)
