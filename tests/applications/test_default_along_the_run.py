"""Self-influence of nets that keep checkpoints is averaged along the run, without being asked."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier

from influencekit import InfluenceFunction, RunAverage
from influencekit.applications import NoisyLabelDetector
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
        assert isinstance(default_attributor(estimator, along_run=True), RunAverage)
        assert isinstance(default_attributor(estimator), InfluenceFunction)


@pytest.mark.parametrize("callbacks", [None, [], "disable", [("mine", None)]])
def test_other_nets_have_only_their_end(callbacks):
    for estimator in net(callbacks), LogisticRegression():
        assert isinstance(default_attributor(estimator, along_run=True), InfluenceFunction)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_self_influence_takes_the_average():
    estimator = net([("kept", KeepCheckpoints(n=3))])
    average = RunAverage(InfluenceFunction("ekfac", output="margin"))
    found, asked, alone = (
        NoisyLabelDetector(model, attributor, method="self_influence", refit=False,
                           contamination=0.1, random_state=0).fit(X, Y).label_scores_
        for model, attributor in ((estimator, None), (estimator, average), (net(None), None))
    )  # fmt: skip
    np.testing.assert_array_equal(found, asked)
    assert np.abs(alone - found).max() > 0.01 * np.abs(found).max()
