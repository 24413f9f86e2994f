"""Nets that keep checkpoints are judged by the average along their run, without being asked."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier

from influencekit import InfluenceFunction, RunAverage
from influencekit.applications import DatasetPruner, NoisyLabelDetector
from influencekit.applications._values import default_attributor
from influencekit.training import KeepCheckpoints, TrajectoryRecorder

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def net(callbacks):
    return NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=3,
        module__out_features=2,
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=4,
        batch_size=20,
        train_split=None,
        verbose=0,
        callbacks=callbacks,
    )


@pytest.mark.parametrize(
    "callbacks", [[KeepCheckpoints(n=4)], [("mine", TrajectoryRecorder())], (KeepCheckpoints(),)]
)
def test_kept_runs_are_seen(callbacks):
    for estimator in net(callbacks), make_pipeline(StandardScaler(), net(callbacks)):
        assert isinstance(default_attributor(estimator), RunAverage)


@pytest.mark.parametrize("callbacks", [None, [], "disable", [("mine", None)]])
def test_other_nets_have_only_their_end(callbacks):
    assert isinstance(default_attributor(net(callbacks)), InfluenceFunction)
    assert isinstance(default_attributor(LogisticRegression()), InfluenceFunction)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_both_tools_take_the_average():
    estimator = net([("kept", KeepCheckpoints(n=3))])
    average = RunAverage(InfluenceFunction("ekfac", output="margin"))
    for attributor in None, average:
        detector = NoisyLabelDetector(estimator, attributor, method="validation_influence", cv=2,
                                      contamination=0.1, random_state=0).fit(X, Y)  # fmt: skip
        pruner = DatasetPruner(estimator, attributor, cv=2, random_state=0).fit(X, Y)
        if attributor is None:
            scores, values = detector.label_scores_, pruner.values_
    np.testing.assert_array_equal(scores, detector.label_scores_)
    np.testing.assert_array_equal(values, pruner.values_)
    alone = NoisyLabelDetector(net(None), method="validation_influence", cv=2,
                               contamination=0.1, random_state=0).fit(X, Y)  # fmt: skip
    assert np.abs(alone.label_scores_ - scores).max() > 0.01 * np.abs(scores).max()
