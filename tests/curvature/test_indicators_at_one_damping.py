"""Leading coordinates of layers with positions tell whether the least damping is enough."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature._spectrum import grad_dot_cosines
from influencekit.curvature.kronecker import _one_damping
from influencekit.damping import _default, _of_model

N = 60
pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


class Images(nn.Sequential):
    def __init__(self):
        layers = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 6, 3), nn.Tanh(), nn.Flatten()]
        super().__init__(*layers, nn.Linear(24, 4))


@pytest.fixture
def given():
    torch.manual_seed(0)
    X = torch.randn(N, 1, 6, 6, dtype=torch.float64)
    return as_task(Images().double(), loss=nn.CrossEntropyLoss()), X, torch.randint(4, (N,))


@pytest.mark.parametrize("curvature", ["kfac", "ekfac"])
@pytest.mark.parametrize("share", [0.01, 1.0])
def test_they_are_those_of_all_coordinates(given, curvature, share, monkeypatch):
    monkeypatch.setattr(_one_damping, "_MANY", 1.0)  # a small net has few that can be left out
    spectrum = InfluenceFunction(curvature, damping=0.1).fit(*given).curvature_
    columns, rows = torch.arange(0, N, 2), torch.arange(0, N // 2, 3)
    exact = spectrum.restrict(columns).train_path(rows)
    damping = share * float(exact.spectrum.eigenvalues.max())
    found = _one_damping.indicators_at(spectrum.narrow(columns), rows, damping)
    assert not _one_damping._leading(spectrum, damping).all()
    np.testing.assert_allclose(found[0], grad_dot_cosines(exact)(damping)[0], atol=0.02)
    np.testing.assert_allclose(found[1], exact.xi([damping])[0], atol=0.02)


def test_with_all_coordinates_they_are_exact(given, monkeypatch):
    monkeypatch.setattr(_one_damping, "_SHARE", 0.0)
    monkeypatch.setattr(_one_damping, "_MANY", 1.0)
    spectrum = InfluenceFunction("ekfac", damping=0.1).fit(*given).curvature_
    columns, rows = torch.arange(0, N, 2), torch.arange(0, N // 2, 3)
    exact = spectrum.restrict(columns).train_path(rows)
    found = _one_damping.indicators_at(spectrum.narrow(columns), rows, 1e-3)
    np.testing.assert_allclose(found[0], grad_dot_cosines(exact)(1e-3)[0], rtol=1e-9)
    np.testing.assert_allclose(found[1], exact.xi([1e-3])[0], rtol=1e-9)


def test_where_most_coordinates_count_all_are_needed(given):
    spectrum = InfluenceFunction("ekfac", damping=0.1).fit(*given).curvature_
    assert _one_damping.indicators_at(spectrum, torch.arange(5), 1e-12) is None


@pytest.mark.parametrize("least", [1e-5, 1e-3, 0.1, 1.0])
def test_the_damping_is_the_larger_of_both(given, monkeypatch, least):
    """Found with a search or without."""
    monkeypatch.setattr(_one_damping, "_MANY", 1.0)
    monkeypatch.setattr(_of_model, "least_damping", lambda *_: least)
    found = InfluenceFunction("ekfac").fit(*given).damping_
    monkeypatch.setattr(_default, "indicators_at", lambda *_: None)
    searched = InfluenceFunction("ekfac").fit(*given).damping_
    assert found == pytest.approx(searched, rel=2e-3)
    assert found >= least


def test_a_damping_that_is_enough_is_not_searched(given, monkeypatch):
    monkeypatch.setattr(_one_damping, "_MANY", 1.0)
    monkeypatch.setattr(_of_model, "least_damping", lambda *_: 1.0)
    monkeypatch.setattr(_default, "choosing_path", None)
    assert InfluenceFunction("ekfac").fit(*given).damping_ == 1.0
