"""XGBoost's and LightGBM's trees, where they are installed: ``make test-slow``."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from influencekit import TreeInfluence
from influencekit.exceptions import SampledRowsWarning, UnsupportedModelError
from influencekit.models._predict import predict, predict_proba
from influencekit.models.trees._task import tree_task
from tests.attributors.trees._reference import Boosting, central_differences, neg_loss

pytestmark = pytest.mark.slow

ROWS = [0, 3, 11, 40, 77]
FEW = {"n_estimators": 6, "n_jobs": 1, "random_state": 0}


def xgb(classes, **more):
    xgboost = pytest.importorskip("xgboost")
    cls = xgboost.XGBClassifier if classes else xgboost.XGBRegressor
    return cls(**FEW, max_depth=3, learning_rate=0.2, **more)


def lgb(classes, **more):
    lightgbm = pytest.importorskip("lightgbm")
    cls = lightgbm.LGBMClassifier if classes else lightgbm.LGBMRegressor
    return cls(**FEW, num_leaves=7, learning_rate=0.2, verbose=-1, **more)


def problem(kind):
    """Training rows, their matrix of targets, and queries with theirs."""
    loads = {"squared": load_diabetes, "logistic": load_breast_cancer, "softmax": load_wine}
    X, y = loads[kind](return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:160]
    X, y = X[order], y[order]
    if kind == "squared":
        y = y / 100
        Y = y[:, None]
    else:
        Y = (y == 1)[:, None].astype(float) if kind == "logistic" else np.eye(3)[y]
    return X[:140], y[:140], Y[:140], X[140:], y[140:], Y[140:]


def start(kind, library, Y):
    """Starting score by the weights, as the library estimates it."""

    def of(w):
        mean = w @ Y / w.sum()
        if kind == "squared":
            return mean
        if kind == "logistic":
            return np.log(mean / (1 - mean))
        share = np.log(mean)
        return share - share.mean() if library is xgb else share

    return of


@pytest.mark.parametrize("kind", ["squared", "logistic", "softmax"])
@pytest.mark.parametrize("library", [xgb, lgb])
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives(kind, library, weighted):
    X, y, Y, Q, u, U = problem(kind)
    for part in (X, Q):
        part[::9, 2] = np.nan
    model = library(kind != "squared", reg_lambda=0.7, reg_alpha=0.13)
    w = np.random.default_rng(1).uniform(0.5, 2, len(X)) if weighted else np.ones(len(X))
    fit = {"sample_weight": w} if weighted else {}
    model.fit(X, y, **fit)
    refit = reference(model, library, kind, X, Y, Q, start(kind, library, Y))
    raw = {"output_margin": True} if library is xgb else {"raw_score": True}
    theirs = model.predict(Q, **raw).reshape(refit.scores(w).shape)
    np.testing.assert_allclose(refit.scores(w), theirs, rtol=1e-4, atol=1e-4)

    def explained(weights):
        return neg_loss(kind, refit.scores(weights), U)

    expected = central_differences(explained, w, ROWS)
    scores = TreeInfluence("leaf").fit(model, X, y, **fit).score(Q, u)[:, ROWS]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def reference(model, library, kind, X, Y, Q, base):
    if library is xgb:
        leaves = [np.asarray(model.apply(part)).reshape(len(part), -1) for part in (X, Q)]
    else:
        leaves = [model.predict(part, pred_leaf=True).reshape(len(part), -1) for part in (X, Q)]
    k = Y.shape[1]
    curvature = {"softmax": 2.0 if library is xgb else k / max(k - 1, 1)}.get(kind, 1.0)
    return Boosting(*leaves, Y, kind, 0.2, 0.7, 0.13, curvature=curvature, base=base)


@pytest.mark.parametrize("library", [xgb, lgb])
@pytest.mark.parametrize("kind", ["squared", "logistic", "softmax"])
def test_predictions(library, kind):
    X, y, _, Q, _, _ = problem(kind)
    model = library(kind != "squared").fit(X, y)
    task = tree_task(model)
    if kind == "squared":
        np.testing.assert_allclose(predict(task, Q), model.predict(Q), rtol=1e-5)
    else:
        np.testing.assert_allclose(predict_proba(task, Q), model.predict_proba(Q), atol=1e-5)


@pytest.mark.parametrize("library", [xgb, lgb])
def test_label_weights_give_the_predictions_back(library):
    X, y, _, Q, _, _ = problem("squared")
    model = library(False, reg_lambda=0.0).fit(X, y)
    weights = TreeInfluence("axil").fit(model, X, y).label_weights(Q)
    np.testing.assert_allclose(weights @ y, model.predict(Q), rtol=1e-5)


def test_a_start_of_ones_own():
    X, y, _, Q, _, _ = problem("squared")
    model = xgb(False, base_score=0.4).fit(X, y)
    weights = TreeInfluence("axil").fit(model, X, y).label_weights(Q)
    np.testing.assert_allclose(0.4 + weights @ (y - 0.4), model.predict(Q), rtol=1e-5)


@pytest.mark.parametrize("library", [xgb, lgb])
@pytest.mark.parametrize("name", ["scale_pos_weight", "class_weight"])
def test_weight_of_a_class(library, name):
    """scale_pos_weight weighs the trees, and leaves LightGBM's start as it is."""
    if library is xgb and name == "class_weight":
        return
    X, y, Y, Q, u, U = problem("logistic")
    settings = {name: 3.0 if name == "scale_pos_weight" else {0: 1.0, 1: 3.0}}
    model = library(True, reg_lambda=0.7, reg_alpha=0.13, **settings).fit(X, y)
    of_class = np.where(y == 1, 3.0, 1.0)
    begin = start("logistic", library, Y)

    def from_start(w):
        if library is xgb:  # one Newton step from 0, with the weights
            return 4 * (w @ Y / w.sum()) - 2
        return begin(w / of_class if name == "scale_pos_weight" else w)

    refit = reference(model, library, "logistic", X, Y, Q, from_start)
    theirs = model.predict_proba(Q)[:, 1]
    np.testing.assert_allclose(
        np.exp(neg_loss("logistic", refit.scores(of_class), 0 * U + 1)), theirs, rtol=1e-4
    )

    def explained(w):
        return neg_loss("logistic", refit.scores(w), U)

    expected = central_differences(explained, of_class, ROWS)
    scores = TreeInfluence("leaf").fit(model, X, y).score(Q, u)[:, ROWS]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("library", [xgb, lgb])
def test_frames_with_categories(library):
    X, y, _, Q, u, _ = problem("squared")
    frames = []
    for part in (X, Q):
        frame = pd.DataFrame(part, columns=[f"c{i}" for i in range(10)])
        level = np.digitize(frame.c2, [-0.03, 0.0, 0.03])
        frame["level"] = pd.Categorical(np.array(list("abcd"))[level], categories=list("abcd"))
        frames.append(frame)
    more = {"enable_categorical": True} if library is xgb else {}
    model = library(False, **more).fit(frames[0], y)
    task = tree_task(model)
    np.testing.assert_allclose(predict(task, frames[1]), model.predict(frames[1]), rtol=1e-5)
    assert TreeInfluence().fit(model, frames[0], y).score(frames[1], u).shape == (20, 140)


def test_stopped_early():
    X, y, _, Q, u, _ = problem("logistic")
    model = xgb(True, early_stopping_rounds=1).set_params(n_estimators=60)
    model.fit(X, y, eval_set=[(Q, u)], verbose=False)
    assert tree_task(model).module.trees.n_trees == model.best_iteration + 1
    assert TreeInfluence().fit(model, X, y).score(Q, u).shape == (20, 140)


@pytest.mark.parametrize(
    ("library", "settings", "words"),
    [
        (xgb, {"booster": "dart"}, "booster='dart'"),
        (xgb, {"num_parallel_tree": 3}, "num_parallel_tree"),
        (xgb, {"objective": "reg:pseudohubererror"}, "pseudohuber"),
        (lgb, {"boosting_type": "dart"}, "boosting_type='dart'"),
        (lgb, {"linear_tree": True}, "linear_tree"),
        (lgb, {"objective": "poisson"}, "poisson"),
        (lgb, {"data_sample_strategy": "goss"}, "goss"),
        (lgb, {"path_smooth": 2.0}, "path_smooth"),
    ],
)
def test_refused_by_name(library, settings, words):
    X, y, _, _, _, _ = problem("squared")
    model = library(False, **settings).fit(X, y)
    with pytest.raises(UnsupportedModelError, match=words):
        TreeInfluence("leaf").fit(model, X, y)


@pytest.mark.parametrize(
    ("library", "settings"),
    [(xgb, {"subsample": 0.5}), (lgb, {"subsample": 0.5, "subsample_freq": 1})],
)
def test_sampled_rows_count_by_their_share(library, settings):
    """Near the mean of the scores of models that sampled other rows, and warned of."""
    X, y, _, Q, u, _ = problem("squared")
    model = library(False, **settings).fit(X, y)
    with pytest.warns(SampledRowsWarning, match="50% of the rows"):
        scores = TreeInfluence("leaf").fit(model, X, y).score(Q, u)
    whole = library(False).fit(X, y)
    others = TreeInfluence("leaf").fit(whole, X, y).score(Q, u)
    assert np.corrcoef(scores.ravel(), others.ravel())[0, 1] > 0.5
    assert 0.5 < np.abs(scores).mean() / np.abs(others).mean() < 2
    with pytest.raises(UnsupportedModelError, match="do not follow from the training rows"):
        TreeInfluence("leaf").fit(model, X, np.random.default_rng(0).permutation(y))
