"""Targets as a column of shape (n, 1), which regression nets need, are taken by every tool.

References: the same targets as a vector, residuals of a frozen model, a net trained by hand.
"""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from skorch import NeuralNetRegressor

from influencekit import SGDInfluence
from influencekit.applications import DatasetPruner, NoisyLabelDetector, score_then_retrain
from influencekit.training import TrajectoryRecorder
from influencekit.training._randomness import seeded

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
T = (X @ [1, 2, 3, 0] + RNG.normal(size=60)).astype(np.float32)
LABELS = (T > 0).astype(int)
TOOLS = {
    "detector": lambda model: NoisyLabelDetector(model, random_state=0),
    "folds": lambda model: NoisyLabelDetector(model, method="loss", cv=3, random_state=0),
    "influence": lambda model: NoisyLabelDetector(
        model, method="validation_influence", random_state=0
    ),
    "pruner": lambda model: DatasetPruner(model, random_state=0),
}


def net(**options):
    settings = {"lr": 0.05, "max_epochs": 3, "batch_size": 10, "train_split": None, "verbose": 0}
    with seeded(0):
        module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
        return NeuralNetRegressor(module, optimizer=torch.optim.SGD, **settings | options)


@pytest.mark.parametrize("model", [LinearRegression(), LogisticRegression()])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_column_is_a_vector(tool, model):
    y = LABELS if isinstance(model, LogisticRegression) else T
    found, expected = (TOOLS[tool](model).fit(X, targets) for targets in (y[:, None], y))
    values = "values_" if tool == "pruner" else "label_scores_"
    np.testing.assert_array_equal(getattr(found, values), getattr(expected, values))


def test_residuals_of_a_regression_net():
    model = net().fit(X, T[:, None])
    found = NoisyLabelDetector(FrozenEstimator(model)).fit(X, T[:, None])
    np.testing.assert_allclose(
        found.label_scores_, np.square(model.predict(X)[:, 0] - T), rtol=1e-5
    )
    assert list(found.review_table_["given"]) == list(T[found.review_table_["row"]])


@pytest.mark.parametrize("tool", ["folds", "pruner"])
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_nets_are_fitted_on_the_column(tool):
    fitted = TOOLS[tool](net()).fit(X, T[:, None])  # a vector would be broadcast, with a warning
    assert np.isfinite(fitted.values_ if tool == "pruner" else fitted.label_scores_).all()


def test_values_along_the_run_of_a_regression_net():
    y = T[:, None]
    found = score_then_retrain(net(), X, y, X[:20], y[:20], random_state=5)
    with seeded(int(np.random.RandomState(5).randint(2**31 - 1))):
        model = net(callbacks=[TrajectoryRecorder()]).fit(X, y)
    scores = SGDInfluence(curvature="hessian").fit(model, X, y).score(X[:20], y[:20])
    np.testing.assert_allclose(found.values, scores.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.rows, np.sort(np.argsort(-found.values)[:30]))
