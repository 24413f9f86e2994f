"""A net fitted on float32 meets rows in float64."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.applications import NoisyLabelDetector


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
@pytest.mark.parametrize("method", ["rounds", "loss"])
def test_label_errors_of_a_float32_net_and_float64_rows(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = (X[:, 0] > 0).astype(np.int64)
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=4,
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
        max_epochs=3,
        train_split=None,
        verbose=0,
    ).fit(X.astype(np.float32), y)
    options = {"method": method, "contamination": 0.1, "random_state": 0}
    wide = NoisyLabelDetector(net, **options).fit(X, y)
    narrow = NoisyLabelDetector(net, **options).fit(X.astype(np.float32), y)
    np.testing.assert_allclose(wide.label_scores_, narrow.label_scores_, rtol=1e-5)
    np.testing.assert_array_equal(wide.predict(X), narrow.predict(X.astype(np.float32)))
