"""Classes derived from scikit-learn's that predict otherwise: noticed, never read as the base."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction, TreeInfluence, as_task, retrain_on_subsets
from influencekit.exceptions import UnsupportedModelError

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
t = 1e4 + 50 * X[:, 0] + rng.normal(size=60)


class Threshold(LogisticRegression):
    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.3).astype(int)]


class Shifted(LogisticRegression):
    def decision_function(self, X):
        return super().decision_function(X) - 1


class Squared(LogisticRegression):
    def predict_proba(self, X):
        return super().predict_proba(X) ** 2


class Clipped(Ridge):
    def predict(self, X):
        return np.maximum(0, super().predict(X))


class Exponential(LinearRegression):
    def predict(self, X):
        return np.exp(super().predict(X))


class Opposite(Pipeline):
    def predict(self, X):
        return 1 - super().predict(X)


class SquaredForest(RandomForestClassifier):
    def predict_proba(self, X):
        return super().predict_proba(X) ** 2


class Alike(LogisticRegression):
    def fit(self, X, y):
        return super().fit(X, y)

    def predict_proba(self, X):
        return np.array(super().predict_proba(X))


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (Threshold(), y),
        (Shifted(), y),
        (Squared(), y),
        (Clipped(), t),
        (Exponential(), t / 1e4),
        (Opposite([("scale", StandardScaler()), ("last", LogisticRegression())]), y),
        (make_pipeline(StandardScaler(), Squared()), y),
        (OneVsRestClassifier(Squared()), y),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_predictions_are_refused(model, target):
    model.fit(X, target)
    with pytest.raises(UnsupportedModelError, match="has its own"):
        InfluenceFunction().fit(model, X, target)


def test_other_predictions_of_trees_are_refused():
    model = SquaredForest(4, random_state=0).fit(X, y)
    with pytest.raises(UnsupportedModelError, match="its own predict_proba"):
        TreeInfluence().fit(model, X, y)


def test_an_object_with_another_method_is_refused():
    model = LogisticRegression().fit(X, y)
    model.predict = lambda X: np.zeros(len(X), dtype=int)
    with pytest.raises(UnsupportedModelError, match="its own predict"):
        as_task(model)


@pytest.mark.parametrize("names", [None, list("abc")])
def test_a_subclass_that_predicts_alike_is_read(names):
    rows = X if names is None else pd.DataFrame(X, columns=names)
    scores = [
        InfluenceFunction().fit(kind().fit(rows, y), rows, y).score(rows[:5], y[:5])
        for kind in (Alike, LogisticRegression)
    ]
    np.testing.assert_array_equal(*scores)


def test_retraining_asks_the_model_as_it_is():
    model, everyone = Squared().fit(X, y), np.ones((1, 60), dtype=bool)
    truth = retrain_on_subsets(model, X, y, X[:5], y[:5], masks=everyone, random_state=0)
    expected = np.log(model.predict_proba(X[:5])[np.arange(5), y[:5]])
    np.testing.assert_allclose(truth.outputs[0, 0], expected)


def test_retraining_does_not_open_a_pipeline_with_its_own_predictions():
    steps = [("scale", StandardScaler()), ("last", LogisticRegression())]
    model, everyone = Opposite(steps).fit(X, y), np.ones((1, 60), dtype=bool)
    with pytest.raises(UnsupportedModelError, match="refit_transformers"):
        retrain_on_subsets(model, X, y, X[:5], y[:5], masks=everyone)
