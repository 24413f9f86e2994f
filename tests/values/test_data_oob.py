"""Data-OOB against its formula by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError
from influencekit.values import DataOOB

IRIS = load_iris(return_X_y=True)
NUMBERS = tuple(part[:120] for part in load_diabetes(return_X_y=True))


def by_hand(model, X, answer):
    """Mean and standard error of ``answer(part, x, i)`` over the parts that did not draw row i."""
    means, errors = np.empty(len(X)), np.empty(len(X))
    for i in range(len(X)):
        parts = zip(model.estimators_, model.estimators_samples_, strict=True)
        answers = [answer(b, part, i) for b, (part, rows) in enumerate(parts) if i not in rows]
        means[i] = np.mean(answers)
        errors[i] = np.std(answers) / np.sqrt(len(answers) - 1)
    return means, errors


def test_classes_of_a_forest():
    X, y = IRIS[0][::3], np.array(["ab", "cd", "ef"])[IRIS[1][::3]]
    model = RandomForestClassifier(20, random_state=0).fit(X, y)
    values = DataOOB().fit(model, X, y)

    def answer(b, tree, i):
        return model.classes_[int(tree.predict(X[[i]])[0])] == y[i]

    means, errors = by_hand(model, X, answer)
    np.testing.assert_allclose(values.score(X[:2], y[:2]), np.tile(means, (2, 1)))
    np.testing.assert_allclose(values.std_error_, errors)
    np.testing.assert_allclose(values.self_influence(), means)


def test_numbers_of_a_forest():
    X, y = NUMBERS
    model = RandomForestRegressor(20, random_state=0).fit(X, y)
    means, _ = by_hand(model, X, lambda b, tree, i: -((tree.predict(X[[i]])[0] - y[i]) ** 2))
    np.testing.assert_allclose(DataOOB().fit(model, X, y).score(X[:1], y[:1])[0], means)


def test_bagging_with_some_features_behind_a_pipeline():
    X, y = NUMBERS
    bagging = BaggingRegressor(Ridge(), 40, max_features=0.5, random_state=0)
    pipe = make_pipeline(StandardScaler(), bagging).fit(X, y)
    Z = pipe[0].transform(X)

    def answer(b, part, i):
        return -((part.predict(Z[[i]][:, bagging.estimators_features_[b]])[0] - y[i]) ** 2)

    means, _ = by_hand(bagging, Z, answer)
    np.testing.assert_allclose(DataOOB().fit(pipe, X, y).score(X[:1], y[:1])[0], means)


def test_wrong_labels_have_low_values_from_a_frame():
    X, y = pd.DataFrame(IRIS[0], columns=list("abcd")), IRIS[1].copy()
    wrong = np.arange(0, 150, 15)
    y[wrong] = (y[wrong] + 1) % 3
    model = BaggingClassifier(LogisticRegression(max_iter=500), 30, random_state=0)
    values = DataOOB().fit(model.fit(X, y), X, y).score(X[:1], y[:1])[0]
    assert values[wrong].mean() < 0.2 < 0.8 < np.delete(values, wrong).mean()


def test_a_row_that_every_part_drew():
    X, y = IRIS
    model = RandomForestClassifier(2, random_state=0).fit(X, y)
    with pytest.warns(InfluenceKitWarning, match="of 150 rows were drawn by every model"):
        values = DataOOB().fit(model, X, y).score(X[:1], y[:1])[0]
    never = np.isin(np.arange(150), np.intersect1d(*model.estimators_samples_))
    np.testing.assert_allclose(values[never], values[~never].mean())


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingClassifier(n_estimators=2),
        ExtraTreesClassifier(2),
        LogisticRegression(max_iter=500),
    ],
)
def test_models_without_bootstraps_are_refused(model):
    X, y = IRIS
    with pytest.raises(UnsupportedModelError, match="none can be asked without a row"):
        DataOOB().fit(model.fit(X, y), X, y)


def test_other_data_are_refused():
    X, y = IRIS
    model = RandomForestClassifier(5).fit(X, y)
    with pytest.raises(ValueError, match="got 60 rows, but the model drew rows beyond"):
        DataOOB().fit(model, X[:60], y[:60])
