"""What scores of trees obey, whatever the trees: order, copies, groups, removal on a structure."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeRegressor

from influencekit import GroupAttributor, TreeInfluence
from influencekit.exceptions import ResourceError
from tests.attributors.trees._reference import Boosting, means, neg_loss


def diabetes(n=200):
    X, y = load_diabetes(return_X_y=True)
    y = y / 100
    return X[:n], y[:n], X[n : n + 20], y[n : n + 20]


@pytest.mark.parametrize("method", ["leaf", "boostin", "axil", "kernel"])
def test_rows_in_another_order(method):
    X, y, Q, u = diabetes()
    model = GradientBoostingRegressor(n_estimators=10).fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    scores = TreeInfluence(method).fit(model, X, y).score(Q, u)
    permuted = TreeInfluence(method).fit(model, X[order], y[order]).score(Q, u)
    np.testing.assert_allclose(permuted, scores[:, order], atol=1e-12)


def test_a_row_twice_is_a_row_of_weight_two():
    """Two copies share what one row of twice the weight is worth."""
    X, y, Q, u = diabetes()
    w = np.ones(len(X))
    w[7] = 2
    X2, y2 = np.r_[X, X[7:8]], np.r_[y, y[7]]
    settings = {"n_estimators": 10, "max_depth": 2, "random_state": 0}
    heavy = GradientBoostingRegressor(**settings).fit(X, y, sample_weight=w)
    twice = GradientBoostingRegressor(**settings).fit(X2, y2)
    np.testing.assert_allclose(heavy.predict(Q), twice.predict(Q))  # the same structure
    of_heavy = TreeInfluence().fit(heavy, X, y, sample_weight=w).score(Q, u)
    of_twice = TreeInfluence().fit(twice, X2, y2).score(Q, u)
    np.testing.assert_allclose(of_twice[:, 7], of_twice[:, -1], atol=1e-14)
    np.testing.assert_allclose(of_twice[:, 7] + of_twice[:, -1], of_heavy[:, 7], atol=1e-12)


def test_memory_threads_and_progress_change_no_score(capsys):
    X, y, Q, u = diabetes()
    model = HistGradientBoostingRegressor(max_iter=20, early_stopping=False).fit(X, y)
    scores = TreeInfluence().fit(model, X, y).score(Q, u)
    for settings in ({"max_memory": "60KB"}, {"n_jobs": 2}, {"max_memory": "60KB", "n_jobs": 2}):
        again = TreeInfluence(**settings).fit(model, X, y).score(Q, u)
        np.testing.assert_allclose(again, scores, atol=1e-14)
    with pytest.raises(ResourceError, match="200 rows in 20 trees"):
        TreeInfluence(max_memory="1KB").fit(model, X, y)
    assert capsys.readouterr().err == ""
    TreeInfluence(verbose=1).fit(model, X, y).score(Q, u)
    assert "Queries" in capsys.readouterr().err


def test_several_models_are_averaged():
    X, y, Q, u = diabetes()
    w = np.random.default_rng(0).uniform(0.5, 2, len(X))
    models = [GradientBoostingRegressor(n_estimators=5, max_depth=d) for d in (1, 2)]
    for model in models:
        model.fit(X, y, sample_weight=w)
    each = [TreeInfluence().fit(model, X, y, sample_weight=w).score(Q, u) for model in models]
    both = TreeInfluence().fit(models, X, y, sample_weight=w).score(Q, u)
    np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-14)


def test_groups_are_sums_of_their_rows():
    X, y = load_iris(return_X_y=True)
    model = RandomForestClassifier(20, random_state=0).fit(X, y)
    groups = np.arange(150) % 7
    rows = TreeInfluence().fit(model, X, y).score(X[::10], y[::10])
    found = GroupAttributor(TreeInfluence()).fit(model, X, y, groups=groups).score(X[::10], y[::10])
    np.testing.assert_allclose(found, rows @ np.eye(7)[groups], atol=1e-12)


@pytest.mark.parametrize("cls", [HistGradientBoostingRegressor, HistGradientBoostingClassifier])
def test_all_weights_together_change_nothing(cls):
    """Without a penalty, scaling every weight leaves the leaves as they are: scores add to 0."""
    if cls is HistGradientBoostingRegressor:
        X, y, Q, u = diabetes()
    else:
        X, y = load_iris(return_X_y=True)
        Q, u = X[::9], y[::9]
    model = cls(max_iter=8, early_stopping=False).fit(X, y)
    scores = TreeInfluence().fit(model, X, y).score(Q, u)
    np.testing.assert_allclose(scores.sum(1), 0, atol=1e-10 * np.abs(scores).sum())


@pytest.mark.parametrize("kind", ["squared", "logistic"])
def test_leaving_a_row_out_on_the_same_structure(kind):
    if kind == "squared":
        X, y, Q, u = diabetes()
        model = GradientBoostingRegressor(n_estimators=15, max_depth=2).fit(X, y)
        Y, U, leaves = y[:, None], u[:, None], model.apply
    else:
        X, y = load_breast_cancer(return_X_y=True)
        X, y, Q, u = X[:300], y[:300], X[300:320], y[300:320]
        model = GradientBoostingClassifier(n_estimators=15, max_depth=2).fit(X, y)
        Y, U = y[:, None].astype(float), u[:, None].astype(float)

        def leaves(X):
            return model.apply(X)[:, :, 0]

    refit = Boosting(leaves(X), leaves(Q), Y, kind, 0.1, base=means(kind)(Y))
    full, effects = neg_loss(kind, refit.scores(np.ones(len(X))), U), []
    rows = np.arange(0, len(X), 15)
    for j in rows:
        weights = np.ones(len(X))
        weights[j] = 0
        effects.append(full - neg_loss(kind, refit.scores(weights), U))
    scores, effects = TreeInfluence().fit(model, X, y).score(Q, u)[:, rows], np.array(effects).T
    assert np.corrcoef(scores.ravel(), effects.ravel())[0, 1] > 0.97


def test_leverage_of_a_single_tree():
    """In one tree, leaving a row out of its leaf of m rows is m / (m - 1) times its score."""
    X, y, Q, _ = diabetes()
    model = DecisionTreeRegressor(min_samples_leaf=4).fit(X, y)
    scores = TreeInfluence("leaf", output="prediction").fit(model, X, y).score(Q)
    leaf, of_query = model.apply(X), model.apply(Q)
    for i, place in enumerate(of_query):
        members = np.flatnonzero(leaf == place)
        m, total = len(members), y[members].sum()
        without = (total - y[members]) / (m - 1)
        np.testing.assert_allclose(scores[i, members] * m / (m - 1), total / m - without)
        assert not np.delete(scores[i], members).any()


def test_kernel_of_a_forest_compares_labels_with_the_trees_that_did_not_draw_them():
    X, y, Q, u = diabetes(80)
    forest = RandomForestRegressor(15, random_state=0).fit(X, y)
    weight, said, out = np.zeros((20, 80)), np.zeros(80), np.zeros(80)
    for tree, rows in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        counts = np.bincount(rows, minlength=80)
        same = (tree.apply(Q)[:, None] == tree.apply(X)[None]) * counts
        weight += same / same.sum(1, keepdims=True) / 15
        said[counts == 0] += tree.predict(X[counts == 0])
        out += counts == 0
    expected = np.where(out > 0, said / np.maximum(out, 1), y.mean())
    influence = TreeInfluence("kernel", output="prediction").fit(forest, X, y)
    np.testing.assert_allclose(influence.score(Q), weight * (y - expected))
    slope = -2 * (forest.predict(Q) - u)  # of minus the squared error
    scores = TreeInfluence().fit(forest, X, y).score(Q, u)
    np.testing.assert_allclose(scores, slope[:, None] * weight * (y - expected))


def test_kernel_without_bootstraps_looks_at_the_leaf_beside():
    """A row that is alone in its leaf is compared with what stands beside the leaf."""
    X, y, Q, _ = diabetes(60)
    forest = ExtraTreesRegressor(10, random_state=0).fit(X, y)
    weight, expected = np.zeros((20, 60)), np.zeros(60)
    for one in forest.estimators_:
        tree, leaf = one.tree_, one.apply(X)
        same = one.apply(Q)[:, None] == leaf[None]
        weight += same / same.sum(1, keepdims=True) / 10
        for j in range(60):
            others = (leaf == leaf[j]) & (np.arange(60) != j)
            if others.any():
                expected[j] += y[others].mean() / 10
                continue
            parent = np.flatnonzero(
                (tree.children_left == leaf[j]) | (tree.children_right == leaf[j])
            )
            sides = (tree.children_left[parent[0]], tree.children_right[parent[0]])
            beside = sides[0] if sides[1] == leaf[j] else sides[1]
            expected[j] += tree.value[beside, 0, 0] / 10
    scores = TreeInfluence(output="prediction").fit(forest, X, y).score(Q)
    np.testing.assert_allclose(scores, weight * (y - expected), atol=1e-12)


@pytest.mark.parametrize(
    ("model", "tolerance"),
    [
        (GradientBoostingRegressor(n_estimators=30), 1e-10),
        (GradientBoostingRegressor(n_estimators=30, subsample=0.5, random_state=1), 1e-10),
        (HistGradientBoostingRegressor(max_iter=20, early_stopping=False), 1e-5),
        (RandomForestRegressor(20, random_state=0), 1e-10),
        (ExtraTreesRegressor(20, random_state=0), 1e-10),
    ],
)
def test_label_weights_give_the_predictions_back(model, tolerance):
    X, y, Q, _ = diabetes()
    influence = TreeInfluence("axil").fit(model.fit(X, y), X, y)
    weights = influence.label_weights(Q)
    np.testing.assert_allclose(weights @ y, model.predict(Q), rtol=tolerance)
    np.testing.assert_allclose(weights.sum(1), 1)


@pytest.mark.parametrize("subsample", [1.0, 0.5])
def test_axil_scores_are_label_weights_times_what_is_left_over(subsample):
    X, y, Q, u = diabetes()
    model = GradientBoostingRegressor(n_estimators=20, subsample=subsample, random_state=1)
    influence = TreeInfluence("axil", output="prediction").fit(model.fit(X, y), X, y)
    expected = influence.label_weights(Q) * (y - model.predict(X))
    np.testing.assert_allclose(influence.score(Q), expected, atol=1e-12)
    slope = -(model.predict(Q) - u)[:, None]  # of minus half the squared error
    losses = TreeInfluence("axil").fit(model, X, y).score(Q, u)
    np.testing.assert_allclose(losses, slope * expected, atol=1e-12)


def test_kernel_of_medians_looks_at_the_mean_of_the_others():
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:150], y[:150]
    tree = DecisionTreeRegressor(criterion="absolute_error", max_depth=2).fit(X, y)
    scores = TreeInfluence(output="prediction").fit(tree, X, y).score(X[:4])
    beside = tree.apply(X)[:4, None] == tree.apply(X)
    size = beside.sum(1, keepdims=True)
    mean = (beside @ y)[:, None] / size
    expected = beside / size * (y - (size * mean - y) / (size - 1))
    np.testing.assert_allclose(scores, expected, atol=1e-10)


def test_label_weights_are_those_of_refitted_leaves():
    """The prediction is linear in the labels: refits on other labels say by how much."""
    X, y, Q, _ = diabetes()
    model = GradientBoostingRegressor(n_estimators=8, max_depth=2).fit(X, y)
    weights = TreeInfluence("axil").fit(model, X, y).label_weights(Q)
    more = np.random.default_rng(0).normal(size=len(y))
    ones = np.ones(len(X))
    for labels in (y, y + more):
        Y = labels[:, None]
        refit = Boosting(
            model.apply(X), model.apply(Q), Y, "squared", 0.1, base=means("squared")(Y)
        )
        np.testing.assert_allclose(weights @ labels, refit.scores(ones)[:, 0], rtol=1e-10)


def test_a_start_at_zero():
    X, y, Q, _ = diabetes()
    model = GradientBoostingRegressor(n_estimators=8, init="zero").fit(X, y)
    weights = TreeInfluence("axil").fit(model, X, y).label_weights(Q)
    np.testing.assert_allclose(weights @ y, model.predict(Q), rtol=1e-10)
