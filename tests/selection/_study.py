"""A small study, also for a process of its own that may be killed."""

import os
import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import InfluenceFunction, SensitivityStudy, SubsetOutputs

DAMPINGS = [1e-3, 1e-2, 1e-1, 1.0]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(22, 5), nn.Tanh(), nn.Linear(5, 4))

    def forward(self, X):
        return self.layers(X)


def make_problem(n_models=1, epochs=4):
    """Nets, training data and queries."""
    X, y = load_digits(n_class=4, return_X_y=True)
    X = (X[:, ::3] / 16).astype(np.float32)
    nets = []
    for seed in range(n_models):
        torch.manual_seed(seed)
        net = NeuralNetClassifier(
            Net,
            criterion=nn.CrossEntropyLoss,
            lr=0.5,
            max_epochs=epochs,
            batch_size=20,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        )
        nets.append(net.fit(X[:80], y[:80]))
    return nets, (X[:80], y[:80], X[80:100], y[80:100])


def make_truth():
    """Outputs that hang on the data a little; what they are does not matter here."""
    rng = np.random.default_rng(0)
    masks = rng.random((12, 80)) < 0.5
    outputs = masks @ rng.normal(size=(80, 20)) + rng.normal(size=(12, 20))
    return SubsetOutputs(masks, outputs[:, None], np.zeros((12, 1)))


class DyingAttributor(InfluenceFunction):
    """Ends the process when it is set to the third damping."""

    def set_damping(self, damping):
        if damping == DAMPINGS[2] and os.environ.get("STUDY_DIES"):
            os.kill(os.getpid(), 9)
        return super().set_damping(damping)


def run(cache_dir):
    """Study of two fits with four dampings each."""
    torch.set_num_threads(1)
    nets, data = make_problem()
    grid = {"projection_dim": [8, 12], "damping": DAMPINGS}
    study = SensitivityStudy((DyingAttributor("fisher"), grid), cache_dir=cache_dir, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return study.fit(nets[0], *data, subset_outputs=make_truth())


if __name__ == "__main__":
    import sys

    run(sys.argv[1])
