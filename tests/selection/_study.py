"""A small study, also for a process of its own that may be killed."""

import os
import warnings

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import InfluenceFunction, SensitivityStudy, SubsetOutputs
from tests._shared.nets import TwoLayers
from tests._shared.tables import coarse_digits, split

DAMPINGS = [1e-3, 1e-2, 1e-1, 1.0]


def make_problem(n_models=1, epochs=4):
    """Nets, training data and queries."""
    X, y = coarse_digits()
    data = split(X.astype(np.float32), y, 80, 20)
    nets = []
    for seed in range(n_models):
        torch.manual_seed(seed)
        net = NeuralNetClassifier(
            TwoLayers,
            module__n_in=22,
            module__n_out=4,
            criterion=nn.CrossEntropyLoss,
            lr=0.5,
            max_epochs=epochs,
            batch_size=20,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        )
        nets.append(net.fit(*data[:2]))
    return nets, data


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
