"""Values of models that are asked as they are, beside refits and the law of the sum."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomTreesEmbedding,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from influencekit import TreeInfluence
from influencekit.applications import NoisyLabelDetector
from influencekit.exceptions import UnsupportedModelError
from influencekit.values import BetaShapley, KNNShapley, LeaveOneOut, Shapley

n = 30
rng = np.random.default_rng(0)
X = rng.normal(size=(n, 2))
y = np.where(X[:, 0] + rng.normal(size=n) > 0, "yes", "no")
t = 100 + 30 * X[:, 0] + 10 * rng.normal(size=n)
frame = pd.DataFrame({"a": X[:, 0], "level": pd.Categorical(rng.choice(list("xyz"), n))})
vote = VotingClassifier([("nb", GaussianNB()), ("linear", LogisticRegression())])
boosting = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2, random_state=0)


def log_probability(model, rows, target):
    found = model.predict_proba(rows)
    return np.log(found[np.arange(len(target)), np.searchsorted(model.classes_, target)])


def minus_square(model, rows, target):
    return -np.square(model.predict(rows) - target)


def minus_mistake(model, rows, target):
    return -1.0 * (model.predict(rows) != target)


@pytest.mark.parametrize(
    ("model", "rows", "target", "output"),
    [
        (
            TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
            *(X, t, minus_square),
        ),
        (CalibratedClassifierCV(GaussianNB(), cv=3), X, y, log_probability),
        (vote, X, y, minus_mistake),
        (boosting, frame, y, log_probability),
    ],
    ids=["transformed targets", "calibrated", "hard vote", "categories"],
)
def test_leave_one_out_is_that_of_refits(model, rows, target, output):
    queries, answers = rows[:4], target[:4]
    model = clone(model).fit(rows, target)
    values = LeaveOneOut(random_state=0)
    scores = values.fit(model, rows, target, X_query=queries, y_query=answers)
    scores = scores.score(queries, answers)
    for j in (0, 7, 19):
        kept = np.arange(n) != j
        refit = clone(model).fit(rows[kept], target[kept])
        change = output(model, queries, answers) - output(refit, queries, answers)
        np.testing.assert_allclose(scores[:, j], change, atol=1e-9)


def test_values_of_transformed_targets_sum_to_the_gain_over_the_mean():
    model = TransformedTargetRegressor(Ridge(), transformer=StandardScaler()).fit(X, t)
    shapley = Shapley(n_trainings=20, random_state=0)
    shapley.fit(model, X, t, X_query=X[:4], y_query=t[:4])
    gain = minus_square(model, X[:4], t[:4]) + np.square(t.mean() - t[:4])
    np.testing.assert_allclose(shapley.score(X[:4], t[:4]).sum(1), gain)


def test_values_of_a_vote_sum_to_the_gain_over_the_most_frequent_label():
    model = clone(vote).fit(X, y)
    shapley = Shapley(n_trainings=20, random_state=0)
    shapley.fit(model, X, y, X_query=X[:4], y_query=y[:4])
    labels, counts = np.unique(y, return_counts=True)
    gain = minus_mistake(model, X[:4], y[:4]) + 1.0 * (labels[counts.argmax()] != y[:4])
    np.testing.assert_allclose(shapley.score(X[:4], y[:4]).sum(1), gain, atol=1e-9)


def test_categories_are_no_distances():
    with pytest.raises(TypeError, match="level"):
        KNNShapley().fit(boosting.fit(frame, y), frame, y)


def test_too_few_rows_are_named():
    model = KNeighborsClassifier().fit(X, y)
    with pytest.raises(ValueError, match=r"cannot be trained on \d+ of the 30 rows"):
        BetaShapley(n_trainings=6, random_state=0).fit(model, X, y, X_query=X[:3], y_query=y[:3])


def test_models_without_targets_are_refused():
    forest = IsolationForest(n_estimators=5).fit(X)
    with pytest.raises(UnsupportedModelError, match="neither a classifier nor a regressor"):
        LeaveOneOut().fit(forest, X, y, X_query=X[:3], y_query=y[:3])
    with pytest.raises(UnsupportedModelError, match="not a tree model"):
        TreeInfluence().fit(RandomTreesEmbedding(5).fit(X), X, y)


def test_a_hard_vote_is_advised_what_it_can_do():
    with pytest.raises(TypeError, match="voting='soft'"):
        NoisyLabelDetector(clone(vote)).fit(X, y)
