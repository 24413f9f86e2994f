"""Small nets and the slow reference: one skorch fit a model."""

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn


class Probabilities(nn.Module):
    """Ends in softmax, for skorch's default NLLLoss."""

    def __init__(self, width=6, dtype=torch.float64):
        super().__init__()
        self.hidden = nn.Linear(5, width, dtype=dtype)
        self.out = nn.Linear(width, 3, dtype=dtype)

    def forward(self, X):
        return torch.softmax(self.out(torch.tanh(self.hidden(X))), dim=-1)


class Dropped(nn.Module):
    """Dropout between and inside, of two kinds, in one order."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.first = nn.Linear(5, 8, dtype=dtype)
        self.drop = nn.Dropout(0.4)
        self.second = nn.Linear(8, 3, dtype=dtype)
        self.channels = nn.Dropout1d(0.3)

    def forward(self, X):
        h = self.drop(torch.relu(self.first(X)))
        h = self.channels(h.reshape(-1, 4, 2)).flatten(1)
        h = nn.functional.dropout(h, 0.2, self.training)
        return self.second(h)


class Normalized(nn.Module):
    """Running statistics of its own for every model."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.first = nn.Linear(5, 6, bias=False, dtype=dtype)
        self.norm = nn.BatchNorm1d(6, dtype=dtype)
        self.second = nn.Linear(6, 3, dtype=dtype)

    def forward(self, X):
        return self.second(torch.relu(self.norm(self.first(X))))


class Logits(Dropped):
    """No dropout."""

    def forward(self, X):
        return self.second(torch.relu(self.first(X)))


def make_net(module=Logits, **options):
    """Net of three epochs of shuffled batches of 8; the last one is ragged."""
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 3,
        "batch_size": 8,
        "iterator_train__shuffle": True,
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **settings | options)


def make_data(n=45, dtype=np.float64):
    """Three classes that depend on five features."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 5)).astype(dtype)
    return X, (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.3)


def train_alone(net, X, y, seed):
    """The definition of one retraining."""
    torch.manual_seed(seed)
    return clone(net).set_params(train_split=None).fit(X, y)


def log_probabilities_of_label(net, X, y):
    """neg_loss of a fitted classification net, from its raw module outputs."""
    with torch.no_grad():
        raw = net.module_.eval()(torch.as_tensor(X))
    if isinstance(net.criterion_, nn.NLLLoss):
        raw = torch.log(raw + torch.finfo(raw.dtype).eps)
    log_p = torch.log_softmax(raw, -1).double().numpy()
    return log_p[np.arange(len(y)), y]


def outputs_alone(net, X, y, X_query, y_query, truth):
    """What ``truth.outputs`` has to be, one skorch fit after the other."""
    rows = []
    for mask, seeds in zip(truth.masks, truth.seeds, strict=True):
        fits = [train_alone(net, X[mask], y[mask], int(seed)) for seed in seeds]
        rows.append([log_probabilities_of_label(fit, X_query, y_query) for fit in fits])
    return np.array(rows)
