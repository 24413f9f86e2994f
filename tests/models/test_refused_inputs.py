"""Models and inputs that are refused: errors name the argument, the cause and the way out."""

from __future__ import annotations

import numpy as np
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
    words = r"X \(1, 5\) torch.int64.*\(floats for numbers.*uint8 too.*pixels X / 255"
    with pytest.raises(ValueError, match=words):
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
    net = nn.Linear(5, 3)
    with pytest.raises(TypeError, match=f"X: got a {kind} Tensor"):
        fit(net, make())
    with pytest.raises(TypeError, match=rf"X\[1\]: got a {kind} Tensor"):
        fit(net, (X, make()))
    with pytest.raises(TypeError, match=rf"X\['a'\]: got a {kind} Tensor"):
        fit(net, {"a": make()})
    with pytest.raises(TypeError, match=f"y: got a {kind} Tensor"):
        GradDot().fit(as_task(net, loss=CE), X, make())


def ragged(kind):
    return [kind([1.0] * (1 + i % 3)) for i in range(8)]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_ragged_rows(kind):
    net = nn.Linear(5, 3)
    for X_, name in ((ragged(kind), "X"), ((X, ragged(kind)), r"X\[1\]")):
        with pytest.raises(ValueError, match=rf"{name}: .* different shapes, among them \(1,\)"):
            fit(net, X_)
    with pytest.raises(ValueError, match=r"y: .* different shapes, among them \(1,\)"):
        GradDot().fit(as_task(net, loss=CE), X, ragged(kind))


def test_ragged_rows_of_a_dataset():
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return torch.ones(1 + i % 3), 0

    with pytest.raises(ValueError, match="cannot be joined into a batch"):
        GradDot().fit(as_task(nn.Linear(5, 3), loss=CE), Rows())


class NoOutputs(nn.Linear):
    def forward(self, x):
        return super().forward(x)[:, :0]


def test_nothing_to_explain():
    with pytest.raises(UnsupportedModelError, match=r"outputs of shape \('n', 0\)"):
        fit(NoOutputs(5, 3))
    with pytest.raises(ValueError, match=r"y: got .* of shape \(8, 0\)"):
        GradDot().fit(as_task(nn.Linear(5, 3), loss=nn.MSELoss()), X, torch.zeros(8, 0))


def words_and_offsets(bag):
    words = torch.arange(24) % 9
    return GradDot().fit(as_task(bag, loss=CE), (words, torch.arange(8) * 3), Y)


def test_words_of_bags_that_offsets_divide():
    with pytest.raises(ValueError, match=r"X\[0\] has 24, X\[1\] has 8.*give padded rows"):
        words_and_offsets(nn.EmbeddingBag(9, 3))


class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 3)

    def forward(self, words, offsets):
        return self.bag(words, offsets)


def test_nor_are_they_of_one_example_where_their_number_fits():
    data = (torch.arange(8), torch.arange(8))
    with pytest.raises(UnsupportedModelError, match="offsets of an EmbeddingBag"):
        fit(Bags(), data)


class Graphs:
    """What a library of graphs makes of a batch: one graph of them all."""

    def __init__(self, rows):
        self.x, self.edges = torch.stack([x for x, _ in rows]), None


def test_an_object_that_joins_a_batch():
    data = [(X[i], int(Y[i])) for i in range(8)]
    join = lambda rows: (Graphs(rows), torch.tensor([y for _, y in rows]))  # noqa: E731
    loader = torch.utils.data.DataLoader(data, 4, collate_fn=join)
    with pytest.raises(TypeError, match="a batch of the Dataset holds a Graphs"):
        GradDot().fit(as_task(nn.Linear(5, 3), loss=CE), loader)


T = torch.randn(8)


@pytest.mark.parametrize(
    ("loss", "y", "outputs", "words"),
    [
        (nn.MSELoss(), T, 2, r"y: got shape \(8,\) or \(8, 1\), Linear has outputs .*'n', 2\)"),
        (nn.MSELoss(), torch.randn(16), 2, r"y: got shape \(16,\) for 8 .* y.reshape\(8, 2\)"),
        (nn.MSELoss(), torch.randn(9), 1, "X has 8, y has 9"),
        (CE, torch.eye(3).long()[Y], 3, r"Give y.argmax\(1\)"),
        (CE, Y[:, None], 3, r"Give y\[:, 0\]"),
        (nn.PoissonNLLLoss(), T.abs(), 1, r"y: got shape \(8,\), .* outputs of shape \(8, 1\)"),
        (lambda o, t: (o - t).square().mean(), T, 1, r"broadcasts them .*, y\[:, None\]"),
        (lambda o, t: (o - t).square().mean(1), T, 1, r"broadcasts them .*, y\[:, None\]"),
    ],
)
def test_targets_of_another_shape(loss, y, outputs, words):
    with pytest.raises(ValueError, match=words):
        GradDot().fit(as_task(nn.Linear(5, outputs), loss=loss), X, y)
