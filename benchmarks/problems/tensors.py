"""Trained models and rows as tensors: what every library is given, and what costs are measured on.

Sizes: "tiny" is an MLP 64-32-10 on scikit-learn's digits, trained by skorch; "small" is 784-64-10
and "large" is 784-512-128-10 on MNIST, or on digits enlarged to 28 x 28 where MNIST is not found.
A model is trained once, saved below the system's folder of temporary files, and read again.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.problems import data, nets

FOLDER = Path(tempfile.gettempdir()) / "influencekit-benchmarks"
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
        return copy.deepcopy(self.model).eval()

    def to(self, dtype: torch.dtype) -> Problem:
        """The same problem in another precision, for libraries that know only one."""
        if dtype == self.dtype:
            return self
        states = [({k: v.to(dtype) for k, v in s.items()}, w) for s, w in self.checkpoints]
        model = self.fresh_model().to(dtype)
        X, X_test = self.X.to(dtype), self.X_test.to(dtype)
        return replace(self, model=model, X=X, X_test=X_test, checkpoints=states)

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


def digits_net(seed: int):
    """Unfitted skorch net of the tiny problem."""
    torch.manual_seed(seed)
    recipe = {**nets.SGD, "optimizer__weight_decay": 5e-3, "lr": 0.05, "max_epochs": 60}
    return nets.skorch_net(nets.MLP, recipe, module__sizes=SIZES["tiny"]["widths"])


def digits_rows(n: int, m: int, seed: int) -> tuple[np.ndarray, ...]:
    """X, y, X_test, y_test in float32 and int64."""
    X, y = data.digits()
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[:n], order[n : n + m]
    return X[train].astype(np.float32), y[train], X[test].astype(np.float32), y[test]


def mnist_rows(n: int, m: int, seed: int) -> tuple[np.ndarray, ...]:
    """X, y, X_test, y_test of MNIST, or of enlarged digits where MNIST is not found."""
    if not data.has(data.MNIST):
        X, y, X_test, y_test = digits_rows(min(n, 1297), min(m, 500), seed)
        return _enlarge(X), y, _enlarge(X_test), y_test
    (X, y), (X_test, y_test) = data.mnist("train"), data.mnist("test")
    rng = np.random.RandomState(seed)
    train, test = rng.permutation(len(X))[:n], rng.permutation(len(X_test))[:m]
    return X[train], y[train], X_test[test], y_test[test]


def _enlarge(X: np.ndarray) -> np.ndarray:
    images = torch.from_numpy(X).reshape(-1, 1, 8, 8)
    return F.interpolate(images, size=(28, 28), mode="bilinear").flatten(1).numpy()


def at_least(n: int, X: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    """As many rows as asked for, some drawn again with a little noise."""
    rng = np.random.default_rng(0)
    again = rng.integers(len(X), size=max(0, n - len(X)))
    noise = 0.05 * rng.standard_normal((len(again), X.shape[1]), dtype=np.float32)
    more = np.concatenate([X, X[again] + noise]), np.concatenate([y, y[again]])
    return torch.from_numpy(more[0]), torch.from_numpy(more[1])


def enough_rows(n: int, m: int) -> list[Tensor]:
    """X, y, X_test, y_test of ``mnist_rows``, as many as asked for."""
    X, y, X_test, y_test = mnist_rows(n, m, 0)
    return [*at_least(n, X, y), *at_least(m, X_test, y_test)]


def first_images(n: int, m: int) -> list[Tensor]:
    """X, y, X_test, y_test: the first of MNIST, Gaussian clusters without it."""
    if data.has(data.MNIST):
        (X, y), (X_test, y_test) = data.mnist("train"), data.mnist("test")
        parts = X[:n], y[:n], X_test[:m], y_test[:m]
    else:
        rng = np.random.RandomState(0)
        y = rng.randint(10, size=n + m)
        X = (rng.randn(10, 784)[y] + rng.randn(n + m, 784)).astype(np.float32)
        parts = X[:n], y[:n], X[n:], y[n:]
    return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]


def load_problem(
    size: str,
    *,
    n: int | None = None,
    m: int | None = None,
    width: int | None = None,
    dtype: str = "float32",
    settings: Settings | None = None,
) -> Problem:
    """The problem of one size; trains and saves its model where there is none yet."""
    spec, settings = SIZES[size], settings or Settings()
    n, m, widths = n or spec["n"], m or spec["m"], list(spec["widths"])
    if width is not None:
        widths[1] = width
    read = digits_rows if size == "tiny" else mnist_rows
    rows = read(n, m, settings.seed)
    rows_of = "mnist" if size != "tiny" and data.has(data.MNIST) else "digits"
    name = f"{rows_of}-{size}-{'-'.join(map(str, widths))}-n{n}-seed{settings.seed}.pt"
    path = FOLDER / name
    if not path.exists():
        _save(train(size, widths, rows, settings.seed), path)
    states = torch.load(path, weights_only=True)
    kind = getattr(torch, dtype)
    model = nets.stack_of_layers(widths).to(kind)
    states = [{k: v.to(kind) for k, v in state.items()} for state in states]
    model.load_state_dict(states[-1])
    X, y, X_test, y_test = (torch.from_numpy(np.ascontiguousarray(a)) for a in rows)
    checkpoints = [(state, 0.1) for state in states]
    tensors = (X.to(kind), y.long(), X_test.to(kind), y_test.long())
    return Problem(size, model.eval(), *tensors, checkpoints, settings)


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
    model, states = nets.stack_of_layers(widths), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
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
