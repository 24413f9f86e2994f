"""Values of models without gradients, of groups, and of queries that a model cannot tell apart."""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeRegressor

from influencekit import GroupAttributor, SubsetOutputs, SubsetPosterior
from influencekit.values import Datamodel

RNG = np.random.RandomState(0)
X, Y = RNG.randn(20, 2), np.arange(20) % 2
KEPT = SubsetOutputs(RNG.rand(30, 20) < 0.5, RNG.randn(30, 1, 4), np.zeros((30, 1)))


def test_a_forest_has_a_posterior_and_groups():
    model = RandomForestClassifier(3, random_state=0).fit(X, Y)
    queries = {"X_query": X[:4], "y_query": Y[:4], "subset_outputs": KEPT}
    scores = Datamodel().fit(model, X, Y, **queries).score(X[:4], Y[:4])
    posterior = SubsetPosterior(None).fit(model, X, Y, **queries)
    np.testing.assert_array_equal(posterior.score(X[:4], Y[:4]), scores)
    groups = np.arange(20) // 5
    grouped = GroupAttributor(Datamodel()).fit(model, X, Y, groups=groups, **queries)
    sums = np.stack([scores[:, groups == g].sum(1) for g in range(4)], axis=1)
    np.testing.assert_allclose(grouped.score(X[:4], Y[:4]), sums)


def test_queries_in_the_same_leaves_have_their_own_scores():
    numbers = X[:, 0]
    stump = DecisionTreeRegressor(max_depth=1).fit(X, numbers)
    asked = np.array([[5.0, 0], [6.0, 0], [7.0, 0], [8.0, 0]])
    assert len(np.unique(stump.apply(asked))) == 1
    queries = {"X_query": asked, "y_query": np.zeros(4), "subset_outputs": KEPT}
    values = Datamodel().fit(stump, X, numbers, **queries)
    np.testing.assert_array_equal(
        values.score(asked[[2, 1]], np.zeros(2)), values.score(asked, np.zeros(4))[[2, 1]]
    )


def test_equal_queries_keep_their_places():
    """Two equal rows with outputs of their own, as trainings with other seeds give."""
    model = RandomForestClassifier(3, random_state=0).fit(X, Y)
    same = X[[0, 0, 1, 1]]
    values = Datamodel().fit(model, X, Y, X_query=same, y_query=[0, 0, 1, 1], subset_outputs=KEPT)
    scores = values.score(same, [0, 0, 1, 1])
    assert np.abs(scores[0] - scores[1]).max() > 1e-6
