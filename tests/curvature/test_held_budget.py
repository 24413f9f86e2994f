"""Without ``max_memory``, what is held does not depend on the memory that is free."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.gradients import _engine
from influencekit.gradients._gradients import Gradients
from influencekit.utils import _long_work

#: Bytes that fit less than the factors of 24 examples, and more than their coordinates.
BUDGET = 2**20


@pytest.fixture
def held(monkeypatch):
    """What was kept in memory at once, in bytes, in the order of the calls."""
    found, original = [], Gradients.held

    def noted(self, memory, *, spill=False):
        kept = original(self, memory, spill=spill)
        found.append((kept.is_held, len(self)))
        return kept

    monkeypatch.setattr(Gradients, "held", noted)
    return found


def scored(curvature, free, monkeypatch):
    """Scores of a small CNN on a machine with so many bytes free."""
    monkeypatch.setattr(_long_work, "free_memory", lambda _device=None: free)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(288, 5),
    ).eval()  # fmt: skip
    X, y = torch.randn(28, 2, 8, 8), torch.arange(28) % 5
    task = as_task(net, loss=nn.CrossEntropyLoss())
    attributor = InfluenceFunction(curvature, damping=0.1, random_state=0, batch_size=4)
    return attributor.fit(task, X[:24], y[:24]).score(X[24:], y[24:])


@pytest.mark.parametrize("curvature", ["kfac", "ekfac", "ggn", "fisher", "logra", "datainf"])
def test_same_bits_and_the_same_held_whatever_is_free(curvature, held, monkeypatch):
    monkeypatch.setattr(_engine, "_HELD", BUDGET)
    small = scored(curvature, 2 * 2**30, monkeypatch)
    of_small, held[:] = list(held), []
    large = scored(curvature, 64 * 2**30, monkeypatch)
    np.testing.assert_array_equal(small, large)
    assert held == of_small


def test_rows_of_a_kronecker_curvature_are_held_within_the_budget(held, monkeypatch):
    scored("ekfac", 64 * 2**30, monkeypatch)
    assert all(is_held for is_held, _ in held)
    held.clear()
    monkeypatch.setattr(_engine, "_HELD", BUDGET)
    bounded = scored("ekfac", 64 * 2**30, monkeypatch)
    assert not all(is_held for is_held, n in held if n == 24)
    monkeypatch.setattr(_engine, "_HELD", 2**40)
    np.testing.assert_allclose(bounded, scored("ekfac", 64 * 2**30, monkeypatch), rtol=1e-4)
