"""Scores are the derivatives of refitted leaf values, by an independent float64 refit."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeRegressor

from influencekit import TreeInfluence
from influencekit.exceptions import UnsupportedModelError
from tests.attributors.trees._reference import (
    Boosting,
    central_differences,
    hist_leaves,
    means,
    neg_loss,
)

ROWS = [0, 3, 11, 40, 77]


def problem(kind, n=120, n_classes=3):
    """Training rows, targets, their matrix, and queries with theirs."""
    if kind == "squared":
        X, y = make_regression(n + 15, 5, noise=20.0, random_state=0)
        y = y / 100
        Y = y[:, None]
    else:
        n_classes = 2 if kind == "logistic" else n_classes
        X, y = make_classification(
            n + 15, 6, n_informative=4, n_classes=n_classes, flip_y=0.2, random_state=0
        )
        Y = (y == 1)[:, None].astype(float) if kind == "logistic" else np.eye(n_classes)[y]
    return X[:n], y[:n], Y[:n], X[n:], y[n:], Y[n:]


def close(scores, expected):
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["squared", "logistic", "softmax"])
@pytest.mark.parametrize("subsample", [1.0, 0.6])
def test_gradient_boosting(kind, subsample):
    X, y, Y, Q, u, U = problem(kind)
    cls = GradientBoostingRegressor if kind == "squared" else GradientBoostingClassifier
    model = cls(n_estimators=6, max_depth=2, subsample=subsample, random_state=3).fit(X, y)
    T = model.estimators_.size
    k = Y.shape[1]
    refit = Boosting(
        model.apply(X).reshape(len(X), T),
        model.apply(Q).reshape(len(Q), T),
        Y,
        kind,
        0.1 * ((k - 1) / k if k > 1 else 1.0),
        base=means(kind)(Y),
        masks=None if subsample == 1 else drawn_again(model, len(X), k),
    )
    check(model, refit, kind, X, y, Q, u, U)


def drawn_again(model, n, k):
    """Rows of each stage, by scikit-learn's rule: row i is taken with the odds that are left."""
    random, masks = np.random.RandomState(3), []
    for _ in range(len(model.estimators_)):
        uniform, taken, mask = random.uniform(size=n), 0, np.zeros(n)
        for i in range(n):
            if uniform[i] * (n - i) < int(0.6 * n) - taken:
                mask[i], taken = 1.0, taken + 1
        masks.append(mask)
        random.randint(0, 2147483647, size=k)
    return masks


def check(model, refit, kind, X, y, Q, u, U, weights=None, **fit):
    weights = np.ones(len(X)) if weights is None else weights

    def explained(w):
        return neg_loss(kind, refit.scores(w), U)

    raw = model.predict(Q) if kind == "squared" else model.decision_function(Q)
    gap = np.abs(refit.scores(weights).squeeze() - raw).max()
    assert gap < 1e-5 * max(1, np.abs(raw).max())  # the reference is the model
    influence = TreeInfluence("leaf").fit(model, X, y, **fit)
    close(influence.score(Q, u)[:, ROWS], central_differences(explained, weights, ROWS))


@pytest.mark.parametrize("kind", ["squared", "logistic", "softmax"])
def test_hist_gradient_boosting_with_missing_values_and_categories(kind):
    X, y, Y, Q, u, U = problem(kind)
    for part in (X, Q):
        part[::7, 1] = np.nan
        part[:, 2] = np.clip(np.round(part[:, 2]) + 3, 0, 6)
    cls = HistGradientBoostingRegressor if kind == "squared" else HistGradientBoostingClassifier
    model = cls(
        max_iter=5,
        max_leaf_nodes=6,
        min_samples_leaf=8,
        l2_regularization=0.7,
        categorical_features=[2],
        early_stopping=False,
    ).fit(X, y)
    walked = [with_first(part, 2) for part in (X, Q)]
    leaves = [hist_leaves(model, part) for part in walked]
    refit = Boosting(*leaves, Y, kind, 0.1, 0.7, base=means(kind)(Y))
    check(model, refit, kind, X, y, Q, u, U)


def test_histogram_trees_without_a_split_say_zero():
    X, y, *_ = problem("squared", n=30)  # fewer rows than two leaves need
    model = HistGradientBoostingRegressor(max_iter=5).fit(X, y)
    scores = TreeInfluence("leaf", output="prediction").fit(model, X, y).score(X[:2])
    close(scores, np.tile((y - y.mean()) / 30, (2, 1)))
    X, y = load_iris(return_X_y=True)
    model = HistGradientBoostingClassifier(learning_rate=0.5, max_iter=30).fit(X, y)
    leaves, Y = hist_leaves(model, X), np.eye(3)[y]
    assert not np.ptp(leaves, axis=0).all() and np.ptp(leaves[:, -6:], axis=0).any()
    more = {"base": means("softmax")(Y), "roots_say_zero": True}
    refit = Boosting(leaves, leaves[60:64], Y, "softmax", 0.5, **more)
    check(model, refit, "softmax", X, y, X[60:64], y[60:64], Y[60:64])


def with_first(X, column):
    """Columns as the histogram trees order them: categories first."""
    return np.c_[X[:, column], np.delete(X, column, axis=1)]


def test_sample_weight_and_class_weight():
    X, y, Y, Q, u, U = problem("logistic")
    w = np.random.default_rng(0).uniform(0.2, 3, len(X))
    model = HistGradientBoostingClassifier(
        max_iter=5,
        max_leaf_nodes=5,
        min_samples_leaf=8,
        class_weight={0: 1.0, 1: 2.5},
        early_stopping=False,
    ).fit(X, y, sample_weight=w)
    leaves = [hist_leaves(model, part) for part in (X, Q)]
    refit = Boosting(*leaves, Y, "logistic", 0.1, base=means("logistic")(Y))
    weights = w * np.where(y == 1, 2.5, 1.0)
    check(model, refit, "logistic", X, y, Q, u, U, weights, sample_weight=w)
    with pytest.raises(UnsupportedModelError, match="sample_weight where it got one"):
        TreeInfluence().fit(model, X, y)


def test_averaged_trees():
    """Leaves of forests say weighted means of the rows that were drawn."""
    X, y, _, Q, _, _ = problem("squared")
    forest = RandomForestRegressor(7, min_samples_leaf=5, random_state=0).fit(X, y)
    tree = DecisionTreeRegressor(min_samples_leaf=5).fit(X, y)
    for model, trees in ((forest, forest.estimators_), (tree, [tree])):
        counts = np.ones((1, len(X)))
        if model is forest:
            counts = [np.bincount(rows, minlength=len(X)) for rows in forest.estimators_samples_]

        def predicted(w, trees=trees, counts=counts):
            said = np.zeros(len(Q))
            for one, drawn in zip(trees, counts, strict=True):
                same = one.apply(Q)[:, None] == one.apply(X)[None]
                said += (same * (w * drawn)) @ y / (same * (w * drawn)).sum(1)
            return said / len(trees)

        ones = np.ones(len(X))
        np.testing.assert_allclose(predicted(ones), model.predict(Q))
        scores = TreeInfluence("leaf", output="prediction").fit(model, X, y).score(Q)
        close(scores[:, ROWS], central_differences(predicted, ones, ROWS))


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
def test_forest_of_classes(kind):
    X, y, Y, Q, u, _ = problem("softmax")
    forest = kind(9, min_samples_leaf=6, class_weight="balanced", random_state=0).fit(X, y)
    counts, weights = np.ones((9, len(X))), len(y) / (3 * np.bincount(y))[y]
    if forest.bootstrap:
        drawn = [np.bincount(rows, minlength=len(X)) for rows in forest.estimators_samples_]
        counts, first = np.array(drawn), forest.estimators_[0]
        leaf, place = first.apply(X), first.apply(X)[0]
        mean = ((leaf == place) * counts[0]) @ Y
        if np.allclose(mean / mean.sum(), first.tree_.value[place, 0]):
            weights = np.ones(len(X))  # this scikit-learn draws by weight

    def log_share(w):
        share = np.zeros((len(Q), 3))
        for one, drawn in zip(forest.estimators_, counts, strict=True):
            same = (one.apply(Q)[:, None] == one.apply(X)[None]) * (w * drawn)
            share += same @ Y / same.sum(1, keepdims=True) / len(counts)
        return np.log(share[np.arange(len(Q)), u])

    scores = TreeInfluence("leaf").fit(forest, X, y).score(Q, u)
    close(scores[:, ROWS], central_differences(log_share, weights, ROWS))


def test_boostin_is_each_tree_by_itself():
    """The query's slope before each tree times what the row's weight does to that tree's leaf."""
    X, y, Y, Q, u, U = problem("logistic")
    model = GradientBoostingClassifier(n_estimators=5, max_depth=2).fit(X, y)
    leaves, of_queries = model.apply(X)[:, :, 0], model.apply(Q)[:, :, 0]
    mean = Y.mean()
    F, Fq = np.full(len(X), np.log(mean / (1 - mean))), np.full(len(Q), np.log(mean / (1 - mean)))
    slope = U[:, 0] - 1 / (1 + np.exp(-Fq))
    expected = slope[:, None] * (Y[:, 0] - mean)[None] / (len(X) * mean * (1 - mean))
    for tree in range(5):
        p, slope = 1 / (1 + np.exp(-F)), U[:, 0] - 1 / (1 + np.exp(-Fq))
        for leaf in np.unique(leaves[:, tree]):
            rows, asked = leaves[:, tree] == leaf, of_queries[:, tree] == leaf
            H = (p * (1 - p))[rows].sum()
            step = (Y[:, 0] - p)[rows].sum() / H
            own = np.where(rows, 0.1 * (Y[:, 0] - p - step * p * (1 - p)) / H, 0.0)
            expected[asked] += slope[asked, None] * own
            F[rows] += 0.1 * step
            Fq[asked] += 0.1 * step
    np.testing.assert_allclose(
        TreeInfluence("boostin").fit(model, X, y).score(Q, u), expected, atol=1e-10
    )
