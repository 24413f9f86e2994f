"""Recorded runs of attention and convolutions, of inputs of any strides, scored from threads."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from influencekit import AdamWInfluence, SGDInfluence, as_task
from influencekit.training import record_trajectory

METHODS = {AdamW: AdamWInfluence, SGD: SGDInfluence}
BATCHES = [np.arange(start, start + 6) % 12 for start in (0, 6, 3, 9)]


class Encoder(nn.Module):
    def __init__(self, activation="gelu", dropout=0.0, norm_first=False):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            4, 2, 5, dropout, activation, batch_first=True, norm_first=norm_first
        )
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.layer(x).mean(1))


class Attention(nn.Module):
    """The function, which picks its own kernel, without a module around it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.first(x).chunk(3, -1)
        return self.last(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))


class Pictures(nn.Module):
    """Takes contiguous inputs only."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3), nn.Linear(27, 3)

    def forward(self, x):
        x = x.view(len(x), -1).view(len(x), 2, 5, 5)
        return self.last(nn.functional.gelu(self.norm(self.conv(x))).flatten(1))


class Frozen(nn.Module):
    """Batch normalization that keeps its statistics, as fine-tuning often has it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(27, 3)
        self.norm.running_mean += torch.tensor([0.3, -0.2, 0.1])
        self.norm.running_var *= torch.tensor([0.5, 2.0, 1.5])
        self.norm.eval()

    def forward(self, x):
        return self.last(nn.functional.gelu(self.norm(self.conv(x))).flatten(1))


class Drops(nn.Module):
    """Dropout by the function, weight normalization, and a frozen bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(12, 4))
        self.last = nn.Linear(4, 3)
        self.first.bias.requires_grad_(False)

    def forward(self, x):
        z = torch.tanh(self.first(x.flatten(1)))
        return self.last(nn.functional.dropout(z, 0.3, self.training))


def texts(n=12):
    rng = np.random.default_rng(0)
    return torch.tensor(rng.normal(size=(n, 3, 4))), torch.tensor(rng.integers(0, 3, n))


def pictures(n=12):
    """Channels last in memory, as picture files are read."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(n, 5, 5, 2))).permute(0, 3, 1, 2)
    return X, torch.tensor(rng.integers(0, 3, n))


def train(net, X, y, optimizer, weights=None, recorder=None):
    """A short run in plain torch; rows keep their share of the batch."""
    weights = torch.ones(len(X), dtype=X.dtype) if weights is None else weights
    for rows in BATCHES:
        if recorder is not None:
            recorder.rows(rows)
        losses = nn.functional.cross_entropy(net(X[rows].contiguous()), y[rows], reduction="none")
        optimizer.zero_grad()
        ((weights[rows] * losses).sum() / len(rows)).backward()
        optimizer.step()
    return net


def make_net(kind, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**options).double()


def recorded(net, X, y, kind):
    """Trained task and trajectory."""
    optimizer = kind(net.parameters(), lr=0.05)
    with record_trajectory(net, optimizer, len(X), every=2) as recorder:
        train(net, X, y, optimizer, recorder=recorder)
    return as_task(net, loss=nn.CrossEntropyLoss()), recorder.trajectory_


def slope(kind, make, X, y, row, step=1e-5):
    """Central difference of minus each row's loss at the end, by the weight of one row."""
    ends = []
    for sign in (1, -1):
        weights = torch.ones(len(X), dtype=X.dtype)
        weights[row] += sign * step
        net = make()
        net = train(net, X, y, kind(net.parameters(), lr=0.05), weights).eval()
        with torch.no_grad():
            outputs = net(X.contiguous())
        ends.append(-nn.functional.cross_entropy(outputs, y, reduction="none"))
    return ((ends[0] - ends[1]) / (2 * step)).numpy()


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize(
    ("module", "options", "data"),
    [
        (Encoder, {}, texts),
        (Encoder, {"norm_first": True}, texts),
        (Attention, {}, texts),
        (Pictures, {}, pictures),
        (Frozen, {}, pictures),
        (Drops, {}, texts),
    ],
    ids=["encoder", "norm first", "attention", "channels last", "frozen statistics", "drops"],
)
def test_scores_equal_differences_of_plain_runs(kind, module, options, data):
    X, y = data()
    task, trajectory = recorded(make_net(module, **options), X, y, kind)
    scores = METHODS[kind](trajectory, removal="fixed").fit(task, X, y).score(X, y)
    for row in (0, 7):
        expected = slope(kind, lambda: make_net(module, **options), X, y, row)
        np.testing.assert_allclose(scores[:, row], expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("curvature", ["hessian", "smoothed_hessian", "ggn", "fisher", "none"])
@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_every_curvature_takes_a_transformer(kind, curvature, dropout):
    X, y = texts()
    net = make_net(Encoder, activation="relu", dropout=dropout)
    task, trajectory = recorded(net.train(), X, y, kind)
    scores = METHODS[kind](trajectory, curvature).fit(task, X, y).score(X[:4], y[:4])
    assert np.isfinite(scores).all()
    assert (scores != 0).all()


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize(
    "options", [{}, {"horizon": 1}, {"removal_order": "finite"}], ids=["all", "horizon", "finite"]
)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.slow
def test_eight_threads_get_what_one_gets(kind, options, dropout):
    X, y = texts()
    task, trajectory = recorded(make_net(Encoder, dropout=dropout).train(), X, y, kind)

    def fit_and_score(rows):
        return METHODS[kind](trajectory, **options).fit(task, X, y).score(X[rows], y[rows])

    shared = METHODS[kind](trajectory, **options).fit(task, X, y)
    parts = [slice(i, i + 2) for i in range(8)]
    expected = [shared.score(X[part], y[part]) for part in parts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            scored = list(pool.map(lambda part: shared.score(X[part], y[part]), parts))
            fitted = list(pool.map(fit_and_score, parts))
    finally:
        sys.setswitchinterval(interval)
    for found in (scored, fitted):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
