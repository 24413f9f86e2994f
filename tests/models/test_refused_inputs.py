"""Models and inputs that are refused: errors name the argument, the cause and the way out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from influencekit import GradDot, as_task
from influencekit.exceptions import UnsupportedModelError

CE = nn.CrossEntropyLoss()
X, Y = torch.randn(8, 5), torch.arange(8) % 3


def fit(net, X=X):
    return GradDot().fit(as_task(net, loss=CE), X, Y)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_the_dtype_is_named_where_a_float_layer_gets_integers(dtype):
    with pytest.raises(ValueError, match=r"X \(1, 5\) torch.int64.*\(floats for numbers"):
        fit(nn.Linear(5, 3), (X.abs() * 10).to(dtype))


class Reentrant(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(checkpoint(self.a, x.requires_grad_(), use_reentrant=True))


def test_reentrant_checkpoints():
    with pytest.raises(UnsupportedModelError, match="use_reentrant=False"):
        fit(Reentrant())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_of_width_0():
    with pytest.raises(UnsupportedModelError, match=r"'0.weight' .* shape \(0, 5\)"):
        fit(nn.Sequential(nn.Linear(5, 0), nn.Linear(0, 3)))


def test_a_model_without_numbers():
    with pytest.raises(UnsupportedModelError, match="on the meta device"):
        fit(nn.Linear(5, 3, device="meta"))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:torch.quantize")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.empty(8, 5, device="meta"), "meta"),
        (lambda: torch.nested.nested_tensor([torch.randn(5)] * 8), "nested"),
        (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8), "quantized"),
    ],
)
def test_tensors_of_other_kinds(make, kind):
    with pytest.raises(TypeError, match=f"X: got a {kind} Tensor"):
        fit(nn.Linear(5, 3), make())
