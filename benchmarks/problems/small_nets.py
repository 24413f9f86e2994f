"""An MLP, a CNN and a transformer of scikit-learn's digits, for libraries side by side.

The transformer reads an image as a sequence of eight rows of pixels.  Its attention is made of
linear layers, as those of Hugging Face are, since some libraries know no other layers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.problems import nets, tensors
from influencekit import retrain_on_subsets
from influencekit.metrics import PreparedOutputs

RECIPE = {**nets.SGD, "optimizer__weight_decay": 5e-3, "lr": 0.05, "max_epochs": 40}


class Attention(nn.Module):
    """Attention with two heads, and a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, X):
        heads = [part(X).unflatten(2, (2, -1)).transpose(1, 2)
                 for part in (self.query, self.key, self.value)]  # fmt: skip
        weights = (heads[0] @ heads[1].mT / heads[0].shape[-1] ** 0.5).softmax(-1)
        return X + self.out((weights @ heads[2]).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """One block on eight rows of eight pixels, and the mean over rows."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.rows = nn.Linear(8, width)
        self.places = nn.Parameter(0.1 * torch.randn(8, width))
        self.attention, self.norm = Attention(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.out = nn.Linear(width, 10)

    def forward(self, X):
        h = self.attention(self.rows(X.unflatten(1, (8, 8))) + self.places)
        h = h + self.down(F.gelu(self.up(self.norm(h))))
        return self.out(h.mean(1))


def cnn() -> nn.Sequential:
    """Two convolutions of 8 x 8 images and a linear layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 24, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


class Net(nn.Module):
    """One of the three by name, so that a copy draws weights of its own."""

    def __init__(self, kind: str):
        super().__init__()
        made = {"mlp": lambda: nets.stack_of_layers([64, 32, 10]), "cnn": cnn}
        self.net = made.get(kind, Transformer)()

    def forward(self, X):
        return self.net(X)


def unfitted(kind: str, seed: int):
    torch.manual_seed(seed)
    return nets.skorch_net(Net, RECIPE, module__kind=kind)


def load(kind: str, n: int, m: int, seed: int, n_subsets: int, n_repeats: int):
    """The problem, masks of subsets, and outputs of nets retrained on them; made once and saved."""
    rows = tensors.digits_rows(n, m, seed)
    path = tensors.FOLDER / f"nets-{kind}-n{n}-m{m}-seed{seed}-{n_subsets}x{n_repeats}.npz"
    if not path.exists():
        _make(path, unfitted(kind, seed), rows, n_subsets, n_repeats, seed)
    net = Net(kind)
    with np.load(path) as saved:
        state = {name: torch.from_numpy(saved[f"net/{name}"]) for name in net.state_dict()}
        masks, outputs = saved["masks"], PreparedOutputs(saved["outputs"])
    net.load_state_dict(state)
    X, y, X_test, y_test = map(torch.from_numpy, rows)
    problem = tensors.Problem(kind, net.eval(), X, y, X_test, y_test, [(state, 1.0)])
    return problem, masks, outputs


def _make(path, net, rows, n_subsets: int, n_repeats: int, seed: int) -> None:
    net.fit(rows[0], rows[1])
    found = retrain_on_subsets(
        net, *rows, n_subsets=n_subsets, n_repeats=n_repeats, random_state=seed
    )
    state = {f"net/{name}": value.numpy() for name, value in net.module_.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, masks=found.masks, outputs=found.outputs, **state)
