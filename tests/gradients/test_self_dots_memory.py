"""Products of gradients with themselves: copies in float64, and what is held, keep to a budget."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from influencekit import as_task
from influencekit.gradients._cotangents import loss_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.gradients._store import FeatureStore
from tests.gradients._reference import TinyExamples

N = 200


class Copies(TorchDispatchMode):
    """Bytes of the largest copy from float32 to float64."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and found.dtype == torch.float64:
            self.largest = max(self.largest, found.nbytes)
        return found


@pytest.fixture(scope="module")
def problem():
    """Gradients of 2 + 2 + 2 kB an example, and their products by autograd."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Flatten(), nn.Linear(512, 2))
    X, y = torch.randn(N, 16, 32), torch.arange(N) % 2
    rows = []
    for x, label in zip(X, y, strict=True):
        loss = nn.functional.cross_entropy(net(x[None]), label[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())]))
    rows = torch.stack(rows).double()
    return as_task(net, nn.CrossEntropyLoss()), TinyExamples(X, y), rows @ rows.T


def products(problem, max_memory):
    task, examples, expected = problem
    engine = GradientEngine(task, max_memory=max_memory)
    gradients = Gradients(engine, examples, loss_cotangent(task))
    with Copies() as copies:
        found = gradients.dot(gradients)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    return gradients, copies.largest


@pytest.mark.parametrize("max_memory", ["4MB", "2600kB", "1GB"])
def test_copies_in_a_finer_dtype_take_a_quarter_of_the_budget(problem, max_memory):
    gradients, largest = products(problem, max_memory)
    assert 0 < largest <= gradients.engine.max_memory // 4


@pytest.mark.parametrize(("max_memory", "spills"), [("4MB", False), ("2600kB", True)])
def test_half_of_the_budget_holds_gradients(problem, max_memory, spills, monkeypatch):
    spilled = []
    original = FeatureStore._spill
    monkeypatch.setattr(FeatureStore, "_spill", lambda s, f: spilled.append(f) or original(s, f))
    products(problem, max_memory)
    assert bool(spilled) == spills
