"""Small nets that ground truth is made with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["CNN", "MLP", "WordNet"]


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        for d_in, d_out in pairwise(sizes):
            layers += [nn.Linear(d_in, d_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, X: Tensor) -> Tensor:
        return self.layers(X)


class CNN(nn.Module):
    """Two convolutions and a linear layer; images come as rows."""

    def __init__(self, shape: Sequence[int], n_classes: int, width: int = 8):
        super().__init__()
        channels, size, _ = shape
        size = (size + 3) // 4
        self.layers = nn.Sequential(
            nn.Unflatten(1, tuple(shape)),
            nn.Conv2d(channels, width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * size * size, n_classes),
        )

    def forward(self, X: Tensor) -> Tensor:
        return self.layers(X)


class WordNet(nn.Module):
    """Mean of word vectors, then one hidden layer; 0 is padding."""

    def __init__(self, n_words: int, width: int, n_classes: int):
        super().__init__()
        self.words = nn.Embedding(n_words + 1, width, padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, n_classes))

    def forward(self, X: Tensor) -> Tensor:
        used = (X > 0).unsqueeze(-1)
        mean = (self.words(X) * used).sum(1) / used.sum(1).clamp_min(1)
        return self.layers(torch.relu(mean))
