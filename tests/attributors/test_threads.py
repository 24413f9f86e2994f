"""Threads that share one fitted attributor get what they would get alone."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import GradDot, as_task


class Scaled(nn.Module):
    """A bare parameter has no layer, so its gradients take the dense fallback."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, X):
        return self.last(torch.tanh(self.first(X)) * self.scale)


@pytest.mark.parametrize(
    "net",
    [Scaled(), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))],
    ids=["dense", "factored"],
)
def test_parts_scored_in_threads(net):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 3, 40)
    fitted = GradDot().fit(as_task(net, nn.CrossEntropyLoss()), X, y)
    parts = [slice(i, i + 5) for i in range(30)]
    expected = [fitted.score(X[part], y[part]) for part in parts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(3):
            with ThreadPoolExecutor(4) as pool:
                found = pool.map(lambda part: fitted.score(X[part], y[part]), parts)
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-6)
    finally:
        sys.setswitchinterval(interval)
