"""What every library is given: the same model, the same rows, the same settings.

Sizes: "tiny" is an MLP 64-32-10 on scikit-learn's digits, trained by skorch as in
``bench_digits_lds.py``; "small" is 784-64-10 and "large" is 784-512-128-10 on MNIST, or on
digits enlarged to 28 x 28 where MNIST is not found (``--data-home`` or INFLUENCEKIT_DATA).
A model is trained once, saved, and read by every library.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZES = {
    "tiny": {"widths": [64, 32, 10], "n": 1000, "m": 100, "data": "digits"},
    "small": {"widths": [784, 64, 10], "n": 5000, "m": 500, "data": "mnist"},
    "large": {"widths": [784, 512, 128, 10], "n": 5000, "m": 500, "data": "mnist"},
}
N_CHECKPOINTS = 3


@dataclass(frozen=True)
class Settings:
    """Numbers that are the same for every library, where it has the parameter.

    The damping is that of the mean curvature, each file translates it; "auto" is influencekit's.
    """

    damping: float | str = 0.1
    cg_steps: int = 20
    lissa_depth: int = 1000
    lissa_batch: int = 64
    lissa_scale: float = 50.0
    krylov_dim: int = 100
    rank: int = 50
    proj_dim: int = 512
    seed: int = 0


@dataclass
class Problem:
    """A trained model and its data as tensors; ``checkpoints`` are (state dict, weight)."""

    name: str
    model: nn.Module
    X: Tensor
    y: Tensor
    X_test: Tensor
    y_test: Tensor
    folder: Path
    checkpoints: list[tuple[dict, float]]
    settings: Settings = field(default_factory=Settings)

    @property
    def n(self) -> int:
        return len(self.X)

    @property
    def m(self) -> int:
        return len(self.X_test)

    @property
    def p(self) -> int:
        return sum(q.numel() for q in self.model.parameters())

    @property
    def dtype(self) -> torch.dtype:
        return self.X.dtype

    def fresh_model(self) -> nn.Module:
        """A copy, for libraries that change the model they are given."""
        widths = [layer.in_features for layer in self.model if isinstance(layer, nn.Linear)]
        twin = make_mlp([*widths, self.model[-1].out_features]).to(self.dtype)
        twin.load_state_dict(self.model.state_dict())
        return twin.eval()

    def to(self, dtype: torch.dtype) -> Problem:
        """The same problem in another precision, for libraries that know only one."""
        if dtype == self.dtype:
            return self
        states = [({k: v.to(dtype) for k, v in s.items()}, w) for s, w in self.checkpoints]
        model = self.fresh_model().to(dtype)
        X, X_test = self.X.to(dtype), self.X_test.to(dtype)
        return replace(self, model=model, X=X, X_query=X_test, checkpoints=states)

    def describe(self) -> dict:
        """What a result file says about the problem."""
        return {
            "size": self.name,
            "p": self.p,
            "n": self.n,
            "m": self.m,
            "dtype": str(self.dtype).removeprefix("torch."),
            "settings": asdict(self.settings),
        }


def make_mlp(widths: list[int]) -> nn.Sequential:
    """A multilayer perceptron with ReLU between its layers."""
    layers: list[nn.Module] = []
    for d_in, d_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Digits(nn.Module):
    """The tiny model under a name that skorch can call without arguments."""

    def __init__(self):
        super().__init__()
        self.layers = make_mlp(SIZES["tiny"]["widths"])

    def forward(self, X):
        return self.layers(X)


def digits_net(seed: int, **changes):
    """Unfitted skorch net of the tiny problem."""
    from skorch import NeuralNetClassifier

    torch.manual_seed(seed)
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 5e-3,
        "lr": 0.05,
        "max_epochs": 60,
        "batch_size": 64,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(Digits, **{**settings, **changes})


def digits_rows(n: int, m: int, seed: int) -> tuple[np.ndarray, ...]:
    """X, y, X_test, y_test in float32 and int64."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[:n], order[n : n + m]
    X = (X / 16).astype(np.float32)
    return X[train], y[train], X[test], y[test]


def mnist_rows(n: int, m: int, seed: int, data_home) -> tuple[np.ndarray, ...]:
    """X, y, X_test, y_test of MNIST, or of enlarged digits where MNIST is not found."""
    folder = data_home or os.environ.get("INFLUENCEKIT_DATA")
    path = Path(folder) / "mnist" / "mnist.npz" if folder else None
    if path is None or not path.exists():
        X, y, X_test, y_test = digits_rows(min(n, 1297), min(m, 500), seed)
        return _enlarge(X), y, _enlarge(X_test), y_test
    with np.load(path) as data:
        rng = np.random.RandomState(seed)
        train = rng.permutation(len(data["X_train"]))[:n]
        test = rng.permutation(len(data["X_test"]))[:m]
        X, X_test = data["X_train"][train], data["X_test"][test]
        y, y_test = data["y_train"][train], data["y_test"][test]
    scale = [(A.reshape(len(A), -1) / 255).astype(np.float32) for A in (X, X_test)]
    return scale[0], y.astype(np.int64), scale[1], y_test.astype(np.int64)


def _enlarge(X: np.ndarray) -> np.ndarray:
    images = torch.from_numpy(X).reshape(-1, 1, 8, 8)
    return F.interpolate(images, size=(28, 28), mode="bilinear").flatten(1).numpy()


def load_problem(
    size: str,
    folder: Path,
    *,
    n: int | None = None,
    m: int | None = None,
    width: int | None = None,
    dtype: str = "float32",
    data_home=None,
    settings: Settings | None = None,
) -> Problem:
    """The problem of one size; trains and saves its model where there is none yet."""
    spec, settings = SIZES[size], settings or Settings()
    n, m, widths = n or spec["n"], m or spec["m"], list(spec["widths"])
    if width is not None:
        widths[1] = width
    if size == "tiny":
        rows = digits_rows(n, m, settings.seed)
    else:
        rows = mnist_rows(n, m, settings.seed, data_home)
    name = f"{size}-{'-'.join(map(str, widths))}-n{n}-seed{settings.seed}.pt"
    path = Path(folder) / name
    if not path.exists():
        _save(train(size, widths, rows, settings.seed), path)
    states = torch.load(path, weights_only=True)
    kind = getattr(torch, dtype)
    model = make_mlp(widths).to(kind)
    states = [{k: v.to(kind) for k, v in state.items()} for state in states]
    model.load_state_dict(states[-1])
    X, y, X_test, y_test = (torch.from_numpy(np.ascontiguousarray(a)) for a in rows)
    checkpoints = [(state, 0.1) for state in states]
    data = (X.to(kind), y.long(), X_test.to(kind), y_test.long())
    return Problem(size, model.eval(), *data, Path(folder), checkpoints, settings)


def train(size: str, widths: list[int], rows, seed: int) -> list[dict]:
    """State dicts of checkpoints, the last one trained to the end."""
    X, y = rows[0], rows[1]
    if size == "tiny" and widths == SIZES["tiny"]["widths"]:
        net = digits_net(seed).initialize()
        states = []
        for _ in range(N_CHECKPOINTS):
            net.partial_fit(X, y, epochs=20)
            states.append(_copy(net.module_.layers))
        return states
    torch.manual_seed(seed)
    model = make_mlp(widths)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    X, y, states = torch.from_numpy(X), torch.from_numpy(y), []
    for _ in range(N_CHECKPOINTS):
        for _ in range(3):
            for rows_of_batch in torch.randperm(len(X)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(X[rows_of_batch]), y[rows_of_batch]).backward()
                optimizer.step()
        states.append(_copy(model))
    return states


def _copy(module: nn.Module) -> dict:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def _save(states: list[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(states, partial)
    partial.replace(path)
