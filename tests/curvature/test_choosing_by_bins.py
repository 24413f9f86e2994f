"""The damping of layers with positions is chosen on products summed by eigenvalue."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature.kronecker import _binned

N, DAMPINGS = 60, (1e-6, 1e-3, 0.1, 10.0)
pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


class Texts(nn.Module):
    """Words, a layer at all positions, one layer after their mean."""

    def __init__(self):
        super().__init__()
        self.words, self.each = nn.Embedding(12, 6), nn.Linear(6, 8)
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.norm(self.each(self.words(x))).mean(1)))


class Images(nn.Sequential):
    def __init__(self):
        layers = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 6, 3), nn.Tanh(), nn.Flatten()]
        super().__init__(*layers, nn.Linear(24, 1))


@pytest.fixture(params=["texts", "images"])
def given(request):
    torch.manual_seed(0)
    if request.param == "texts":
        net, X = Texts(), torch.randint(12, (N, 5))
    else:
        net, X = Images(), torch.randn(N, 1, 6, 6, dtype=torch.float64)
    return as_task(net.double(), loss=nn.MSELoss()), X, torch.randn(N, 1, dtype=torch.float64)


def spectrum(given):
    return InfluenceFunction("ekfac", damping=0.1).fit(*given).curvature_


def test_products_and_xi_are_near_those_of_all_coordinates(given):
    columns, rows = torch.arange(0, N, 2), torch.arange(0, N // 2, 3)
    exact = spectrum(given).restrict(columns).train_path(rows)
    found = _binned.choosing_path(spectrum(given).narrow(columns), rows)
    assert isinstance(found, _binned.BinnedPath)
    scale = float(exact.spectrum.eigenvalues.max())
    for damping in DAMPINGS:
        wanted = exact.products(damping * scale)
        error = (found.products(damping * scale) - wanted).norm() / wanted.norm()
        assert error < 0.01
    dampings = scale * np.array(DAMPINGS)
    np.testing.assert_allclose(found.xi(dampings), exact.xi(dampings), atol=2e-3)
    np.testing.assert_allclose(found.products(1e8), exact.products(1e8), rtol=1e-6, atol=1e-18)


def test_the_damping_is_that_of_all_coordinates(given, monkeypatch):
    found = InfluenceFunction("ekfac").fit(*given).damping_
    monkeypatch.setattr(_binned, "dense_room", lambda _: 0)  # no layer fits
    assert found == pytest.approx(InfluenceFunction("ekfac").fit(*given).damping_, rel=2e-3)
    assert found > 0
