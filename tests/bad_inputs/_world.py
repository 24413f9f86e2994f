"""The small models and data that the bad inputs are given to; each is made once."""

from functools import cache

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import Dataset

from influencekit import (
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    SGDInfluence,
    SubsetOutputs,
    as_task,
    retrain_on_subsets,
)
from influencekit.training import record_trajectory

N, N_QUERY = 24, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype(np.float32)
Y = np.arange(N) % 2
TARGET = (X @ [1.0, -1.0, 0.5] + 0.1 * RNG.normal(size=N)).astype(np.float32)
X_QUERY = RNG.normal(size=(N_QUERY, 3)).astype(np.float32)
Y_QUERY = np.arange(N_QUERY) % 2
GROUPS = np.arange(N) % 4
SCORES = RNG.normal(size=(N_QUERY, N))
MASKS = np.stack([np.random.default_rng(i).permutation(N) < N // 2 for i in range(6)])
NAN = float("nan")


@cache
def classifier():
    return LogisticRegression(tol=1e-9).fit(X.astype(float), Y)


@cache
def regressor():
    return Ridge().fit(X.astype(float), TARGET.astype(float))


@cache
def skorch_net():
    net = NeuralNetClassifier(
        Linear, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0
    )
    return net.fit(X, Y)


class Linear(nn.Module):
    def __init__(self, n_in=3, n_out=2):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, X):
        return self.layer(X)


def net(n_out=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, n_out))


@cache
def task(loss=nn.CrossEntropyLoss, n_out=2):
    return as_task(net(n_out), loss())


def fit(model=None, X_=X, y=Y, attributor=None, **given):
    model = classifier() if model is None else model
    return (attributor or GradDot()).fit(model, X_, y, **given)


@cache
def fitted(attributor=GradDot, model=classifier):
    return attributor().fit(model(), X, Y)


@cache
def influence():
    return InfluenceFunction("fisher").fit(classifier(), X, Y)


@cache
def grouped():
    return GroupAttributor(InfluenceFunction("fisher")).fit(classifier(), X, Y, groups=GROUPS)


@cache
def outputs():
    return retrain_on_subsets(
        classifier(), X, Y, X_QUERY, Y_QUERY, n_subsets=4, random_state=0, output="neg_loss"
    )


def retrain(**given):
    given = {"n_subsets": 3, "random_state": 0, **given}
    places = [given.pop(name, value) for name, value in
              [("model", classifier()), ("X", X), ("y", Y), ("X_query", X_QUERY),
               ("y_query", Y_QUERY)]]  # fmt: skip
    return retrain_on_subsets(*places, **given)


def made_outputs(masks=MASKS, values=None, seeds=None):
    values = np.zeros((len(masks), 1, N_QUERY)) if values is None else values
    seeds = np.zeros((len(masks), 1), int) if seeds is None else seeds
    return SubsetOutputs(masks, values, seeds)


@cache
def run():
    """A recorded run of the linear net, and the net."""
    torch.manual_seed(0)
    module = Linear()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    data, labels = torch.tensor(X), torch.tensor(Y)
    with record_trajectory(module, optimizer, N, every=2) as recorder:
        for start in range(0, N, 8):
            rows = torch.arange(start, start + 8)
            recorder.rows(rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(data[rows]), labels[rows]).backward()
            optimizer.step()
    return as_task(module, nn.CrossEntropyLoss()), recorder.trajectory_


def fit_run(attributor=SGDInfluence, **given):
    model, trajectory = run()
    return attributor(trajectory, **given).fit(model, X, Y)


class Items(Dataset):
    """A Dataset of the data whose items a function makes of (row, read number)."""

    def __init__(self, make=None, n=N):
        self.make, self.n, self.reads = make, n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.reads += 1
        if self.make is None:
            return torch.tensor(X[i]), int(Y[i])
        return self.make(i, self.reads)


class Forward(nn.Module):
    """A linear layer whose result, or whose input, a function changes."""

    def __init__(self, function, n_out=2, **tensors):
        super().__init__()
        self.layer = nn.Linear(3, n_out)
        self.function = function
        for name, value in tensors.items():
            self.register_buffer(name, value)

    def forward(self, X):
        return self.function(self, X)


def forward(function, n_out=2, **tensors):
    torch.manual_seed(0)
    return as_task(Forward(function, n_out, **tensors), nn.CrossEntropyLoss())


def changed(array, value, at=3):
    copy = np.array(array, dtype=object if isinstance(value, (str, type(None))) else float)
    copy[(at, *(0,) * (copy.ndim - 1))] = value
    return copy


def masked(array):
    mask = np.zeros(np.shape(array), bool)
    mask[(2, *(0,) * (mask.ndim - 1))] = True
    return np.ma.masked_array(array, mask=mask)
