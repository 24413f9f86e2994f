"""Nets of one and of two layers."""

from torch import nn


class OneLayer(nn.Module):
    """A linear model."""

    def __init__(self, n_in=4, n_out=3, dtype=None):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out, dtype=dtype)

    def forward(self, X):
        return self.layer(X)


class TwoLayers(nn.Module):
    """One hidden layer."""

    def __init__(self, n_in=4, width=5, n_out=3, activation=nn.Tanh):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, width), activation(), nn.Linear(width, n_out))

    def forward(self, X):
        return self.layers(X)


def tanh_net(n_in, width, n_out):
    """One hidden layer in float64, as a plain sequence of layers."""
    return nn.Sequential(nn.Linear(n_in, width), nn.Tanh(), nn.Linear(width, n_out)).double()
