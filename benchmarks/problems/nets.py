"""Nets, and the skorch nets that train them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus100": partial(nn.Softplus, beta=100, threshold=40),
}
SGD = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
ADAMW = {"optimizer": torch.optim.AdamW}


def stack_of_layers(sizes, activation=nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(sizes):
        layers += [nn.Linear(d_in, d_out), activation()]
    return nn.Sequential(*layers[:-1])


class _Layers(nn.Module):
    """A module of one Sequential, from a state if one is given."""

    def __init__(self, layers: nn.Sequential, state=None):
        super().__init__()
        self.layers = layers
        if state is not None:
            self.load_state_dict(state)

    def forward(self, X):
        return self.layers(X)


class MLP(_Layers):
    """Fully connected, ReLU."""

    def __init__(self, sizes, state=None):
        super().__init__(stack_of_layers(sizes), state)


class WideMLP(_Layers):
    """670,000 parameters for images of 28 x 28."""

    def __init__(self, state=None):
        layers = stack_of_layers((784, 512, 512, 10))
        super().__init__(nn.Sequential(nn.Flatten(), *layers), state)


class CNN(_Layers):
    """Two convolutions of 16 x 16 color images and a linear layer."""

    def __init__(self, state=None):
        super().__init__(
            nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, stride=2),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, padding=1, stride=2),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(256, 2),
            ),
            state,
        )


class NormedCNN(_Layers):
    """The same convolutions with BatchNorm."""

    def __init__(self, state=None):
        super().__init__(
            nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, padding=1, stride=2, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(256, 2),
            ),
            state,
        )


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(4, n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(4, n_out)
        self.short = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, X):
        h = torch.relu(self.norm(self.first(X)))
        return torch.relu(self.norm2(self.second(h)) + self.short(X))


class ResNet(_Layers):
    """Three blocks."""

    def __init__(self, width: int = 8, n_classes: int = 2):
        super().__init__(
            nn.Sequential(
                nn.Conv2d(3, width, 3, 1, 1, bias=False),
                Block(width, width, 1),
                Block(width, 2 * width, 2),
                Block(2 * width, 4 * width, 2),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4 * width, n_classes),
            )
        )


class TextNet(nn.Module):
    """Mean of word vectors, one hidden layer; 0 is padding."""

    def __init__(self, n_words: int = 3000, width: int = 16):
        super().__init__()
        self.words = nn.Embedding(n_words, width, padding_idx=0)
        self.hidden = nn.Linear(width, 32)
        self.out = nn.Linear(32, 2)

    def forward(self, X):
        used = (X > 0).unsqueeze(-1)
        mean = (self.words(X) * used).sum(1) / used.sum(1).clamp_min(1)
        return self.out(torch.relu(self.hidden(mean)))


class Transformer(nn.Module):
    """Words and their places, two layers, and the mean over places."""

    def __init__(self, n_words: int = 200, length: int = 16, width: int = 32):
        super().__init__()
        self.words, self.places = nn.Embedding(n_words, width), nn.Embedding(length, width)
        layer = {"dropout": 0.0, "batch_first": True, "dim_feedforward": 4 * width}
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 4, **layer) for _ in range(2))
        self.out = nn.Linear(width, 2)

    def forward(self, X):
        h = self.words(X) + self.places(torch.arange(X.shape[1]))
        for layer in self.layers:
            h = layer(h)
        return self.out(h.mean(1))


def skorch_net(module, recipe: dict, classifies: bool = True, **options):
    """Unfitted skorch net with shuffled batches of 64 on all rows."""
    kind = NeuralNetClassifier if classifies else NeuralNetRegressor
    settings = {
        "criterion": nn.CrossEntropyLoss if classifies else nn.MSELoss,
        "batch_size": 64,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    return kind(module, **{**settings, **recipe, **options})


def mlp_of(hidden: tuple, n_outputs: int, recipe: dict, classifies: bool = True, **options):
    """``model(X, y)`` of a Spec: an MLP of so many features."""

    def model(X, y):
        sizes = (X.shape[1], *hidden, n_outputs)
        return skorch_net(MLP, recipe, classifies, module__sizes=sizes, **options)

    return model


def train(module: nn.Module, X, y, *, epochs: int, batch: int = 64, decay: float = 0.0, lr=0.05):
    """A plain loop of SGD with momentum; the module in eval mode."""
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(X[rows]), y[rows]).backward()
            optimizer.step()
    return module.eval()
