"""An example's outputs are its own, to the last digit, in every dtype."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot, as_task
from influencekit.exceptions import UnsupportedModelError

torch.manual_seed(0)
X, Y = torch.randn(12, 5), torch.arange(12) % 3


class Net(nn.Module):
    def __init__(self, between, after=None):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.between, self.after = between, after

    def forward(self, x):
        z = self.b(self.between(torch.tanh(self.a(x))))
        return z if self.after is None else self.after(z)


def same(z):
    return z


MIXING = {
    "batch statistics": Net(lambda z: F.batch_norm(z, None, None, training=True)),
    "attention": Net(lambda z: F.scaled_dot_product_attention(z[None], z[None], z[None])[0]),
    "a little attention": Net(lambda z: z + 1e-3 * (z @ z.T).softmax(1) @ z),
    "less a little mean": Net(same, lambda z: z - 1e-3 * z.mean(0)),
    "a little noise": Net(same, lambda z: z + 1e-3 * torch.randn_like(z)),
    "the largest of the batch": Net(same, lambda z: z / z.abs().max()),
}


def fitted(net, dtype):
    return GradDot().fit(as_task(net.to(dtype), loss=nn.CrossEntropyLoss()), X, Y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_examples_is_refused(name, dtype):
    said = "draws random numbers" if "noise" in name else "change with the other examples"
    with pytest.raises(UnsupportedModelError, match=said):
        fitted(MIXING[name], dtype)


class Ragged(nn.Module):
    """Layers on the rows that are there: how many decides about the rounding of all."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(7, 64), *(nn.Linear(64, 64) for _ in range(6))])
        self.b = nn.Linear(64, 3)

    def forward(self, x):
        there = x > 0
        z = (x[:, :, None] * torch.ones(7).to(x))[there]
        for layer in self.layers:
            z = torch.tanh(layer(z))
        out = x.new_zeros(*x.shape, 64).masked_scatter(there[:, :, None], z.to(x))
        return self.b(out.sum(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_another_rounding_is_none(dtype):
    torch.manual_seed(1)
    assert fitted(Ragged(), dtype).score(X[:2], Y[:2]).shape == (2, 12)


def test_nor_is_it_under_autocast():
    class Cast(Ragged):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    torch.manual_seed(1)
    assert fitted(Cast(), torch.float32).score(X[:2], Y[:2]).shape == (2, 12)
