"""Modules that keep what they derived from their weights, as LeViT its table of positions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from influencekit import GradDot, InfluenceFunction, as_task
from tests._shared.marks import NOT_TRAINED
from tests.curvature._plain_reference import loss_gradients, relative_error

pytestmark = NOT_TRAINED
torch.manual_seed(0)
X, Y = torch.randn(16, 5), torch.arange(16) % 3
CE = nn.CrossEntropyLoss()


class Fresh(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.table, self.cache = nn.Parameter(torch.randn(6)), {}

    def bias(self):
        return self.table.sin()

    def forward(self, x):
        return self.b(torch.tanh(self.a(x) + self.bias()))


class Caching(Fresh):
    """In eval mode the table is computed once, with gradients or without."""

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.cache = {}
        return self

    def bias(self):
        if self.training:
            return super().bias()
        if "bias" not in self.cache:
            self.cache["bias"] = super().bias()
        return self.cache["bias"]


class Attribute(Caching):
    """The same as an attribute in place of a dict."""

    def bias(self):
        if self.training or not hasattr(self, "kept"):
            self.kept = Fresh.bias(self)
        return self.kept


@pytest.mark.parametrize(
    ("kind", "used"),
    [(Caching, "never"), (Caching, "with gradients"), (Caching, "without"), (Attribute, "never")],
)
def test_a_cache_has_the_gradients_of_its_weights(kind, used):
    net = kind().eval()
    if used != "never":
        with torch.set_grad_enabled(used == "with gradients"):
            net(X)
    plain = Fresh()
    plain.load_state_dict(net.state_dict())
    G = loss_gradients(plain, CE, X, Y, 16)
    task = as_task(net, loss=CE)
    found = GradDot(batch_size=4).fit(task, X[:12], Y[:12]).score(X[12:], Y[12:])
    assert relative_error(found, (G[12:] @ G[:12].T).numpy()) < 1e-5
    how = InfluenceFunction("fisher", 0.1).fit(task, X[:12], Y[:12])
    F = G[:12].T @ G[:12] / 12 + 0.1 * torch.eye(G.shape[1]).double()
    expected = (G[12:] @ torch.linalg.solve(F, G[:12].T) / 12).numpy()
    assert relative_error(how.score(X[12:], Y[12:]), expected) < 1e-4
    cg = InfluenceFunction("cg", 0.1, random_state=0)
    found = cg.fit(task, X[:12], Y[:12]).score(X[12:], Y[12:])
    expected = cg.fit(as_task(plain, loss=CE), X[:12], Y[:12]).score(X[12:], Y[12:])
    assert relative_error(found, expected) < 1e-4
