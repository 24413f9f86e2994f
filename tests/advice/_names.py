"""Names for the code of the tables beside the package's own: libraries, nets, short forms."""

# ruff: noqa: F401

import dataclasses
import tempfile
import warnings
from functools import partial

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.distributions import FloatDistribution
from scipy import sparse
from sklearn import linear_model
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.svm import SVC, LinearSVC
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, WeightedRandomSampler

from influencekit.metrics._population import enumerate_subsets
from tests._shared.nets import TwoLayers


class Net(TwoLayers):
    """Four features, three classes."""


class HalfNet(Net):
    """Trained in a dtype that numpy does not have."""

    def __init__(self):
        super().__init__()
        self.bfloat16()

    def forward(self, X):
        return super().forward(X.bfloat16()).float()


class SoftNet(Net):
    def forward(self, X):
        return super().forward(X).softmax(1)


class WithProbabilities(Net):
    def forward(self, X):
        logits = super().forward(X)
        return logits, logits.softmax(1)


class Wide(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))


class Item(Net):
    """Reads a number, which no stack of models can."""

    def forward(self, X):
        return super().forward(X) * (1 + 0 * self.layers[0].bias.sum().item())


class Wrapped(nn.Module):
    def __init__(self, function, module):
        super().__init__()
        self.function, self.module = function, module

    def forward(self, X):
        return self.function(X)


class ClassesSecond(nn.Module):
    def __init__(self, lm):
        super().__init__()
        self.lm = lm

    def forward(self, X):
        return self.lm(X).transpose(1, 2)


class OwnLoss(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return 2 * super().get_loss(y_pred, y_true, *args, **kwargs)


class OwnInfer(NeuralNetClassifier):
    def infer(self, x, **fit_params):
        return super().infer(2 * x, **fit_params)


class Odd(torch.optim.Optimizer):
    """An optimizer whose weight decay is its own affair."""

    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def step(self, closure=None):
        return closure() if closure else None


class OwnNLL(nn.NLLLoss):
    pass


class NotKnown:
    """A model that nobody registered."""


def broken_split(dataset, y=None, **kwargs):
    if not hasattr(dataset, "X") or dataset.X.dtype != np.float32:
        raise KeyError("no rows of the data")
    return ValidSplit(5)(dataset, y)


classifier = partial(linear_model.LogisticRegression, max_iter=500)
short_net = partial(
    NeuralNetClassifier, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0
)


def skorch_net(loss=nn.CrossEntropyLoss, **options):
    options = {"max_epochs": 3, "train_split": None, "verbose": 0, "lr": 0.1} | options
    torch.manual_seed(0)
    return NeuralNetClassifier(Net, criterion=loss, **options)
