"""KNN-Shapley against all subsets of the neighbors' vote."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError
from influencekit.values import DataOOB, KNNShapley
from tests.values import _games as games

RNG = np.random.RandomState(0)
X, Q = RNG.randn(7, 2), RNG.randn(4, 2)
LABELS, ASKED = np.array(list("abcabca")), np.array(list("abca"))
Y, U = RNG.randn(7) + 3, RNG.randn(4) + 3


def vote(mask, q, k, targets, target):
    """Utility of a subset by its definition; numbers are counted from their mean."""
    rows = np.flatnonzero(mask)
    near = rows[np.argsort(np.linalg.norm(X[rows] - Q[q], axis=1), kind="stable")][:k]
    if targets.dtype.kind == "U":
        return (targets[near] == target).sum() / k
    center = targets.mean()
    return -(((targets[near] - center).sum() / k - (target - center)) ** 2)


def by_brute_force(k, targets, asked):
    v = np.array(
        [[vote(m, q, k, targets, asked[q]) for q in range(len(Q))] for m in games.subsets(len(X))]
    )
    return games.shapley(v, len(X))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 7, 9])
@pytest.mark.parametrize(
    ("model", "targets", "asked"), [(SVC(), LABELS, ASKED), (LinearRegression(), Y, U)]
)
def test_against_all_subsets(model, targets, asked, k):
    found = KNNShapley(k).fit(model.fit(X, targets), X, targets).score(Q, asked)
    np.testing.assert_allclose(found, by_brute_force(k, targets, asked), atol=1e-12)


@pytest.mark.parametrize("n", [1, 2])
def test_very_few_rows(n):
    found = KNNShapley(3).fit(LinearRegression().fit(X, Y), X[:n], Y[:n]).score(Q, U)
    center = Y[:n].mean()
    none, whole = -((U - center) ** 2), -(((Y[:n] - center).sum() / 3 - (U - center)) ** 2)
    np.testing.assert_allclose(found.sum(1), whole - none, atol=1e-12)


def test_equally_distant_rows_in_row_order():
    rows = Q[0] + np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = KNNShapley(1).fit(SVC().fit(X, LABELS), rows, ["a", "b", "a"]).score(Q[:1], ["a"])
    np.testing.assert_allclose(found, [[5 / 6, -1 / 6, 1 / 3]])


def test_a_pipeline_scales_and_the_model_answers_without_labels():
    wide = X * [1, 1000]
    pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(wide, LABELS)
    scaled = StandardScaler().fit(wide)
    plain = KNeighborsClassifier(1).fit(scaled.transform(wide), LABELS)
    found = KNNShapley(2).fit(pipe, wide, LABELS).score(Q, pipe.predict(Q))
    again = KNNShapley(2).fit(plain, scaled.transform(wide), LABELS)
    np.testing.assert_allclose(found, again.score(scaled.transform(Q), pipe.predict(Q)))
    np.testing.assert_allclose(found, KNNShapley(2).fit(pipe, wide, LABELS).score(Q))


def test_several_numbers_are_refused():
    both = np.column_stack([Y, Y])
    with pytest.raises(UnsupportedModelError, match="got 2 numbers an example"):
        KNNShapley().fit(LinearRegression().fit(X, both), X, both)


@pytest.mark.parametrize("offset", [0, 3e8, -2e9])
def test_columns_far_from_zero(offset):
    rows, queries = np.round(X * 64) / 64 + offset, np.round(Q * 64) / 64 + offset
    far = [0.5, 0.0] * (rows - offset) + offset  # exact: halves of multiples of 1/64
    model = SVC().fit(X, LABELS)
    found = KNNShapley(2).fit(model, far, LABELS).score(queries, ASKED)
    order = np.argsort(((queries[:, None] - far) ** 2).sum(2), axis=1, kind="stable")
    right = LABELS[order] == ASKED[:, None]
    near = KNNShapley(2).fit(model, far - offset, LABELS).score(queries - offset, ASKED)
    np.testing.assert_allclose(found, near)
    nearest = np.take_along_axis(found, order, axis=1)
    alike = right[:, :-1] == right[:, 1:]  # neighbors of one answer have one value
    np.testing.assert_allclose(nearest[:, :-1][alike], nearest[:, 1:][alike], atol=1e-12)


def test_distances_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"metric: 'euclidean'.*Scale the features"):
        KNNShapley().fit(SVC().fit(X, LABELS), 1e200 * X, LABELS).score(-1e200 * Q, ASKED)


def test_weights_are_told_not_to_count():
    model = SVC().fit(X, LABELS)
    with pytest.warns(InfluenceKitWarning, match=r"sample_weight.*not used by KNNShapley"):
        KNNShapley().fit(model, X, LABELS, sample_weight=np.arange(7.0))
    KNNShapley().fit(model, X, LABELS, sample_weight=np.full(7, 2.0))  # all alike
    forest = RandomForestClassifier(10, random_state=0).fit(X, LABELS)
    with pytest.warns(InfluenceKitWarning, match=r"sample_weight.*not used by DataOOB"):
        DataOOB().fit(forest, X, LABELS, sample_weight=np.arange(7.0))


def test_equal_rows_have_one_value():
    """Whole numbers have many ties, also between other rows."""
    rng = np.random.default_rng(0)
    rows, labels = rng.integers(0, 3, (60, 2)).astype(float), np.arange(60) % 2
    model = LogisticRegression().fit(rows, labels)
    values = KNNShapley(3).fit(model, rows, labels).score(rows[:9], labels[:9])
    both = np.column_stack([rows, labels])
    for row in np.unique(both, axis=0):
        assert np.ptp(values[:, (both == row).all(1)], axis=1).max() < 1e-12
