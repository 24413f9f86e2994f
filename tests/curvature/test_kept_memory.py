"""Coordinates of all examples belong to the plan of a fit; what is large lies in a file."""

import tempfile
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.exceptions import ProjectionWarning
from tests._shared.nets import tanh_net

N = 1_000


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    X, y = torch.randn(N, 6, dtype=torch.float64), torch.arange(N) % 3
    return as_task(tanh_net(6, 8, 3), nn.CrossEntropyLoss()), X, y


def test_the_projection_that_a_fit_chooses_fits(problem, monkeypatch):
    """A matrix of 79 x 79 would fit 400 kB, and its 1,000 coordinates would not."""
    monkeypatch.setattr("influencekit.curvature.exact._exact.LARGEST_EXACT", 10)
    attributor = InfluenceFunction("fisher", max_memory=400_000, random_state=0)
    with pytest.warns(ProjectionWarning, match="projected to 25 dimensions"):
        attributor.fit(*problem)
    coordinates = attributor.fitted_[0].curvature.train_coordinates
    assert coordinates.shape == (N, 25) and coordinates.nbytes <= 200_000


def test_large_coordinates_lie_in_a_file_that_leaves_nothing(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = []
    for memory in ("1GB", 400_000):  # the coordinates take 480,000 bytes
        attributor = InfluenceFunction(
            "fisher", damping=0.1, projection_dim=60, max_memory=memory, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attributor.fit(*problem)
        found.append(attributor.score(problem[1][:5], problem[2][:5]))
        assert list(tmp_path.iterdir()) == []
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)
