"""Random problems: a small model, its data, and a copy in float64 whose losses are plain torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from torch import nn
from torch.nn import functional as F

from influencekit import as_task

ACTIVATIONS = [
    nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.Sigmoid, nn.LeakyReLU,
    nn.Hardtanh, nn.Softsign, nn.Mish,
]  # fmt: skip


@dataclass
class Problem:
    """A model, its data, and what its losses are without the library."""

    name: str
    model: Any
    net: nn.Module  # in float64 and evaluation mode
    loss: Callable
    X: np.ndarray
    y: np.ndarray
    X_query: np.ndarray
    y_query: np.ndarray
    classifies: bool

    @property
    def module(self) -> nn.Module | None:
        """The user's own module, if the model is one."""
        return getattr(self.model, "module", None)

    @property
    def dtype(self) -> Any:
        """That of the model's parameters."""
        return np.float64 if self.module is None else next(self.module.parameters()).dtype

    @property
    def meets_targets(self) -> bool:
        """Whether a linear model has as many coefficients as rows: its residuals are rounding."""
        if self.module is not None or self.classifies:
            return False
        residuals = np.abs(self.model.predict(self.X) - self.y)
        return bool(residuals.max() <= 1e-12 * np.abs(self.y).max())

    def reference(self, net, weights=None) -> np.ndarray:
        """GradDot with the negative loss: one example at a time, in float64."""
        # <∇loss_i, ∇loss_j> w_j / mean(w)
        train = self._gradients(net, self.X, self.y)
        queries = self._gradients(net, self.X_query, self.y_query)
        scores = queries @ train.T
        return scores if weights is None else scores * weights / weights.mean()

    def rounded(self) -> nn.Module:
        """The net with every parameter moved to one of its neighbors in float64.

        Where a model meets its targets, gradients are roundings of its outputs, and two right
        answers differ by as much as those of the two nets.
        """
        net, rng = copy.deepcopy(self.net), np.random.default_rng(0)
        with torch.no_grad():
            for parameter in net.parameters():
                ends = torch.tensor(rng.choice([-torch.inf, torch.inf], parameter.shape))
                parameter.copy_(parameter.nextafter(ends))
        return net

    def _gradients(self, net, X, y) -> np.ndarray:
        parameters = [p for p in net.parameters() if p.requires_grad]
        rows = []
        for i in range(len(X)):
            x, target = torch.tensor(X[i : i + 1]), torch.tensor(y[i : i + 1])
            x = x.double() if x.is_floating_point() else x
            value = self.loss(net(x), target).sum()
            grads = torch.autograd.grad(value, parameters, allow_unused=True)
            flat = [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(parameters, grads, strict=True)
            ]
            rows.append(torch.cat([g.reshape(-1) for g in flat]).numpy())
        return np.array(rows)


def draw_problem(rng) -> Problem:
    """A problem of a random kind."""
    kind = rng.choice(
        ["sklearn", "linear", "mlp", "cnn", "recurrent"], p=[0.3, 0.1, 0.3, 0.15, 0.15]
    )
    return _sklearn(rng) if kind == "sklearn" else _torch(rng, kind)


def _sizes(rng):
    return int(rng.integers(6, 31)), int(rng.integers(1, 7))


def _rows(rng, n, shape):
    """Values that float32 has too, of a random scale, some of them 0 for sparse matrices."""
    X = rng.standard_normal((n, *shape)) * 10 ** rng.uniform(-1, 1)
    X[rng.random(X.shape) < rng.choice([0.0, 0.4])] = 0.0
    return X.astype(np.float32).astype(np.float64)


def _sklearn(rng) -> Problem:
    n, n_query = _sizes(rng)
    d = int(rng.integers(1, 7))
    X = _rows(rng, n + n_query, (d,))
    slope = X @ rng.standard_normal(d) / np.abs(X).max() + 0.3 * rng.standard_normal(len(X))
    intercept = bool(rng.random() < 0.8)
    C = 10 ** rng.uniform(-2, 1)
    name = str(rng.choice(["Ridge", "LinearRegression", "Logistic", "Poisson", "Gamma"]))
    n_classes = int(rng.integers(2, 5))
    model, y, loss = {
        "Ridge": lambda: (Ridge(C, fit_intercept=intercept), slope, _squared),
        "LinearRegression": lambda: (LinearRegression(fit_intercept=intercept), slope, _squared),
        "Logistic": lambda: (
            LogisticRegression(C=C, fit_intercept=intercept, max_iter=2000, tol=1e-8),
            _labels(slope, n_classes),
            _binary if n_classes == 2 else _cross_entropy,
        ),
        "Poisson": lambda: (
            PoissonRegressor(alpha=C, fit_intercept=intercept, max_iter=2000),
            rng.poisson(np.exp(slope)).astype(float) + np.eye(1, len(X))[0],
            _poisson,
        ),
        "Gamma": lambda: (
            GammaRegressor(alpha=C, fit_intercept=intercept, max_iter=2000),
            np.exp(slope),
            _gamma,
        ),
    }[name]()
    model.fit(X[:n], y[:n])
    net = _linear_net(model, intercept)
    classifies = name == "Logistic"
    return Problem(name, model, net, loss, X[:n], y[:n], X[n:], y[n:], classifies)


def _labels(values, n_classes):
    """Every class among the first rows."""
    labels = np.digitize(values, np.quantile(values, np.arange(1, n_classes) / n_classes))
    labels[:n_classes] = np.arange(n_classes)
    return labels


def _linear_net(model, intercept):
    coef = np.atleast_2d(model.coef_)
    net = nn.Linear(coef.shape[1], coef.shape[0], bias=intercept, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(coef))
        if intercept:
            net.bias.copy_(torch.tensor(np.atleast_1d(model.intercept_)))
    return net


def _torch(rng, kind) -> Problem:
    n, n_query = _sizes(rng)
    target = str(rng.choice(["classes", "binary", "real"]))
    n_out = int(rng.integers(2, 5)) if target == "classes" else int(rng.integers(1, 3))
    n_out = 1 if target == "binary" else n_out
    activation = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    module, X = NETS[kind](rng, activation, n + n_query, n_out)
    y, loss, given = _targets(rng, target, n + n_query, n_out)
    module = module.double() if rng.random() < 0.6 else module
    module.train(bool(rng.random() < 0.5))
    net = copy.deepcopy(module).double().eval()
    name = f"{kind} {activation.__name__} {target} {next(module.parameters()).dtype}"
    model = as_task(module, loss=given)
    return Problem(name, model, net, loss, X[:n], y[:n], X[n:], y[n:], target == "classes")


def _targets(rng, target, n, n_out):
    """Targets, loss of one example in plain torch, and the loss that the library is given."""
    if target == "classes":
        return rng.integers(n_out, size=n), _cross_entropy, nn.CrossEntropyLoss()
    if target == "binary":
        labels = rng.integers(2, size=(n, 1)).astype(np.float32)
        return labels, _binary, nn.BCEWithLogitsLoss()
    values = rng.standard_normal((n, n_out)).astype(np.float32)
    loss, given = [(_mean_squared, nn.MSELoss()), (_huber, nn.HuberLoss())][rng.integers(2)]
    return values, loss, given


def _mlp(rng, activation, n, n_out):
    d, width = int(rng.integers(1, 7)), int(rng.integers(2, 7))
    layers = [nn.Linear(d, width), activation()]
    extra = [None, lambda: nn.LayerNorm(width), lambda: nn.Dropout(0.3), lambda: _norm(width)]
    made = extra[rng.integers(len(extra))]
    layers += [] if made is None else [made()]
    if rng.random() < 0.5:
        layers += [nn.Linear(width, width, bias=bool(rng.random() < 0.5)), activation()]
    if rng.random() < 0.2:
        layers[0].requires_grad_(False)
    return nn.Sequential(*layers, nn.Linear(width, n_out)), _rows(rng, n, (d,))


def _norm(width):
    norm = nn.BatchNorm1d(width)
    norm.running_mean.normal_()
    return norm


def _linear(rng, _activation, n, n_out):
    d = int(rng.integers(1, 7))
    return nn.Linear(d, n_out, bias=bool(rng.random() < 0.7)), _rows(rng, n, (d,))


def _cnn(rng, activation, n, n_out):
    channels, size = int(rng.integers(1, 3)), int(rng.integers(4, 7))
    pool = [nn.MaxPool2d(2), nn.AvgPool2d(2)][rng.integers(2)]
    layers = [
        nn.Conv2d(channels, 4, 3, padding=1, groups=channels), activation(), pool,
        nn.Conv2d(4, 2, 2, bias=bool(rng.random() < 0.5)), activation(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(8, n_out),
    ]  # fmt: skip
    return nn.Sequential(*layers), _rows(rng, n, (channels, size, size))


class Recurrent(nn.Module):
    """A recurrent layer over vectors or tokens; its last output goes on."""

    def __init__(self, layer, width, n_out, tokens):
        super().__init__()
        self.embedding = nn.Embedding(7, 3) if tokens else nn.Identity()
        self.layer = layer(3, width, batch_first=True)
        self.last = nn.Linear(width, n_out)

    def forward(self, X):
        return self.last(self.layer(self.embedding(X))[0][:, -1])


def _recurrent(rng, _activation, n, n_out):
    layer = [nn.GRU, nn.RNN, nn.LSTM][rng.integers(3)]
    tokens, steps = bool(rng.random() < 0.4), int(rng.integers(1, 5))
    X = rng.integers(7, size=(n, steps)) if tokens else _rows(rng, n, (steps, 3))
    return Recurrent(layer, int(rng.integers(2, 5)), n_out, tokens), X


NETS = {"linear": _linear, "mlp": _mlp, "cnn": _cnn, "recurrent": _recurrent}


def _squared(outputs, targets):
    return (outputs[:, 0] - targets).square()


def _mean_squared(outputs, targets):
    return (outputs - targets).square().mean(1)


def _huber(outputs, targets):
    return F.huber_loss(outputs, targets.double(), reduction="none").mean(1)


def _cross_entropy(outputs, targets):
    # the target against the others: 1 - p keeps its digits where p is nearly 1
    own = F.one_hot(targets, outputs.shape[1]).bool()
    others = outputs.masked_fill(own, -torch.inf).logsumexp(1)
    return -F.logsigmoid(outputs[own] - others)


def _binary(outputs, targets):
    # not softplus, whose slope is exactly 1 beyond 20
    signs = 2 * targets.reshape(-1) - 1
    return -F.logsigmoid(signs * outputs[:, 0])


def _poisson(outputs, targets):
    return outputs[:, 0].exp() - targets * outputs[:, 0]


def _gamma(outputs, targets):
    return targets * (-outputs[:, 0]).exp() + outputs[:, 0]
