"""Callbacks that only work with the training that a net was made for: refused everywhere alike."""

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, LRScheduler
from torch import nn

from influencekit import GradDot, retrain_on_subsets
from influencekit.applications import (
    DatasetPruner,
    NoisyLabelDetector,
    group_counterfactual,
    removal_curve,
)
from influencekit.groups import leave_group_out

X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
AREA = np.repeat(["a", "b"], 20)
ROWS = X, Y, X[:4], Y[:4]


class Net(NeuralNetClassifier):
    """Being fitted is an error."""

    def fit(self, X, y, **fit_params):
        raise AssertionError("fitted")


CALLBACKS = {
    "stop": EarlyStopping(),
    "plateau": LRScheduler("ReduceLROnPlateau", monitor="valid_loss"),
    "keep": Checkpoint(monitor="valid_acc_best"),
}
TOOLS = {
    "rounds": lambda net: NoisyLabelDetector(net).fit(X, Y),
    "loss": lambda net: NoisyLabelDetector(net, method="loss").fit(X, Y),
    "influence": lambda net: NoisyLabelDetector(net, method="validation_influence").fit(X, Y),
    "pruner": lambda net: DatasetPruner(net, GradDot()).fit(X, Y),
    "steps": lambda net: DatasetPruner(make_pipeline(StandardScaler(), net), GradDot()).fit(X, Y),
    "removal": lambda net: removal_curve(net, *ROWS, X[:, 0]),
    "groups": lambda net: leave_group_out(net, *ROWS, AREA),
    "gap": lambda net: group_counterfactual(net, *ROWS, AREA, sensitive=AREA[[0, 1, 20, 21]]),
    "subsets": lambda net: retrain_on_subsets(net, *ROWS, n_subsets=2, random_state=0),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", CALLBACKS)
def test_validation_that_retraining_does_not_have(tool, name):
    net = Net(nn.Linear, module__in_features=2, module__out_features=2,
              criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, verbose=0,
              callbacks=[(name, CALLBACKS[name])])  # fmt: skip
    with pytest.raises(ValueError, match=f"callback '{name}' monitors 'valid.*set_params"):
        TOOLS[tool](net)


SCORED = EpochScoring("accuracy", lower_is_better=False)
BY_NAME = {
    "a score of held-out rows": [("own", SCORED), ("stop", EarlyStopping("accuracy"))],
    "its best": [EpochScoring("r2", name="fit"), ("stop", Checkpoint(monitor="fit_best"))],
    "a class": [("stop", EarlyStopping)],
}


def named(callbacks, **more):
    return Net(nn.Linear, module__in_features=2, module__out_features=2, verbose=0,
               criterion=nn.CrossEntropyLoss, callbacks=callbacks, **more)  # fmt: skip


@pytest.mark.parametrize("callbacks", BY_NAME.values(), ids=BY_NAME)
def test_scores_of_rows_that_are_not_held_out(callbacks):
    with pytest.raises(ValueError, match=r"callback 'stop' monitors .*set_params"):
        removal_curve(named(callbacks), *ROWS, X[:, 0])


def test_scores_of_the_training_rows_are_there():
    trained = EpochScoring("accuracy", name="own", on_train=True)
    for net in (
        named([trained, ("stop", EarlyStopping("own"))]),
        named([("stop", EarlyStopping)], callbacks__stop__monitor="train_loss"),
    ):
        with pytest.raises(AssertionError, match="fitted"):
            removal_curve(net, *ROWS, X[:, 0])
