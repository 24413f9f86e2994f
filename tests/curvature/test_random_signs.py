"""Rows of all labels with random signs: the Gauss-Newton matrix in expectation."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import EKFAC, KFAC
from influencekit.curvature.kronecker import _bases, _kfac
from influencekit.gradients._cotangents import at_rows, sampled_cotangent, signs_cotangent

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


def softmax_hessian(logits):
    p = torch.softmax(logits.double(), 0)
    return p.diag() - p[:, None] * p


@pytest.fixture
def images():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 3, 2, bias=False),
        nn.Tanh(), nn.Flatten(), nn.Linear(27, 4),
    ).eval()  # fmt: skip
    return as_task(net, loss=nn.CrossEntropyLoss()), torch.randn(40, 1, 6, 6), torch.arange(40) % 4


def scores(given, curvature, **options):
    task, X, y = given
    found = InfluenceFunction(curvature, damping=1e-3, random_state=0, **options).fit(task, X, y)
    return found.score(X[:5], y[:5])


def errors(make, logits):
    """Mean squared error of one draw's outer product, over many seeds."""
    task = as_task(nn.Linear(2, 4), loss=nn.CrossEntropyLoss())
    y, total = torch.zeros(len(logits), dtype=torch.int64), 0.0
    exact = torch.stack([softmax_hessian(row) for row in logits])
    for seed in range(200):
        rows = make(task, random_state=seed)(logits, y)[:, 0].double()
        total += float((rows[:, :, None] * rows[:, None] - exact).square().sum())
    return total / 200


def test_the_expectation_is_the_hessian_of_the_outputs():
    task = as_task(nn.Linear(2, 4), loss=nn.CrossEntropyLoss())
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0], [4.0, 0.0, -3.0, 1.0]])
    y = torch.tensor([1, 0])
    rows = signs_cotangent(task, 40_000, random_state=0)(logits, y).double()
    for own, row in zip(rows, logits, strict=True):
        wanted = softmax_hessian(row)
        assert (own.T @ own - wanted).norm() < 0.03 * wanted.norm()


def test_signs_vary_less_than_labels_where_the_model_is_sure():
    sure = torch.tensor([[5.0, 0.0, 0.0, 0.0], [0.0, 1.0, 6.0, 0.0]])
    assert errors(signs_cotangent, sure) < 0.2 * errors(sampled_cotangent, sure)


def test_signs_depend_on_the_position_of_an_example_alone():
    task = as_task(nn.Linear(2, 4), loss=nn.CrossEntropyLoss())
    make, logits = signs_cotangent(task, 2, random_state=0), torch.randn(6, 4)
    y = torch.zeros(6, dtype=torch.int64)
    part = at_rows(make, slice(2, 5))(logits[2:5], y[2:5])
    torch.testing.assert_close(part, make(logits, y)[2:5])
    with pytest.raises(ValueError, match="n_samples: got 0"):
        signs_cotangent(task, 0)


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_many_signs_give_the_exact_scores(images, kind):
    exact = scores(images, kind("true"))
    found = scores(images, kind("signs", n_samples=400, random_state=0))
    cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.995


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_the_default_draws_signs_where_all_labels_take_long(images, kind, monkeypatch):
    np.testing.assert_array_equal(scores(images, kind()), scores(images, kind("true")))
    monkeypatch.setattr(_kfac, "MOST_WORK", 0)
    drawn = scores(images, kind())
    np.testing.assert_array_equal(drawn, scores(images, kind("signs")))
    assert not np.allclose(drawn, scores(images, kind("signs", random_state=1)))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))  # one position: labels share their inputs
    task = as_task(flat, loss=nn.CrossEntropyLoss()), *images[1:]
    np.testing.assert_array_equal(scores(task, kind()), scores(task, kind("true")))


@pytest.mark.parametrize("fisher", ["true", "signs"])
@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_scores_do_not_depend_on_what_is_held_or_rotated(images, kind, fisher, monkeypatch):
    wanted = scores(images, kind(fisher))

    def check(**options):
        found = scores(images, kind(fisher), **options)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())

    check(batch_size=7)
    check(max_memory="2MB")
    for dense in (True, False):
        monkeypatch.setattr(_bases.MatrixBasis, "_dense_is_cheaper", lambda *_, d=dense: d)
        check()
