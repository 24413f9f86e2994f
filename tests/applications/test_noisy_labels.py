"""Planted wrong labels are found, by every method, whatever the order and kind of rows."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris, make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from torch import nn

from influencekit import FurtherTraining, InfluenceFunction, Training
from influencekit.applications import DatasetPruner, NoisyLabelDetector
from influencekit.applications._label_probabilities import (
    confidently_contradicted,
    count_of_wrong,
    kept_rows,
)
from influencekit.groups import KMeansGrouper, RandomGrouper
from tests._shared.nets import TwoLayers

CENTERS = np.array([[0.0, 3.0], [3.0, -1.5], [-3.0, -1.5]])


def clouds(n, seed):
    return make_blobs(n, centers=CENTERS, cluster_std=1.2, random_state=seed)


def planted(n=120, wrong=10, seed=0, names=None):
    """Three clouds, some rows of which have another one's label; and which."""
    X, y = clouds(n, seed)
    flipped = np.zeros(n, dtype=bool)
    flipped[np.random.default_rng(seed).choice(n, wrong, replace=False)] = True
    y = np.where(flipped, (y + 1) % 3, y)
    return X, y if names is None else np.asarray(names)[y], flipped


def small_net(**options):
    return NeuralNetClassifier(
        TwoLayers,
        module__n_in=2,
        module__width=4,
        module__activation=nn.ReLU,
        criterion=nn.CrossEntropyLoss,
        lr=0.1,
        max_epochs=8,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **options,
    )


METHODS = [
    ("rounds", {}),
    ("loss", {}),
    ("loss", {"cv": 4}),
    ("margin", {}),
    ("margin", {"cv": StratifiedKFold(3)}),
    ("self_influence", {"contamination": 0.1}),
    ("self_influence", {"attributor": InfluenceFunction("ggn"), "contamination": 0.1}),
    ("validation_influence", {}),
]
#: Weaker than the rest: harm to others says little of a row far from them.
LEAST = {"validation_influence": 0.7}


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_planted_flips_come_first(method, options):
    X, y, flipped = planted()
    detector = NoisyLabelDetector(
        LogisticRegression(), method=method, random_state=0, **options
    ).fit(X, y)
    assert roc_auc_score(flipped, detector.label_scores_) > LEAST.get(method, 0.9)
    scores = detector.label_scores_[detector.ranking_]
    assert (np.diff(scores) <= 0).all()
    n = detector.suspected_.sum()
    assert set(detector.ranking_[:n]) == set(np.flatnonzero(detector.suspected_))
    assert detector.threshold_ == scores[n - 1]
    assert detector.suspected_[flipped].mean() > 1.5 * detector.suspected_.mean()


def test_rounds_against_a_plain_loop():
    """The default, written out once more with scikit-learn alone."""
    X, y, _ = planted(wrong=40)
    detector = NoisyLabelDetector(LogisticRegression(), n_rounds=2, random_state=3).fit(X, y)
    seed = int(np.random.RandomState(3).randint(2**31 - 1)) // 2
    keep, parts = np.ones(len(y), dtype=bool), []
    for step in range(3):
        P = np.zeros((len(y), 3))
        folds = StratifiedKFold(5, shuffle=True, random_state=seed + step).split(X, y)
        for train, test in folds:
            train = [i for i in train if keep[i]]
            P[test] = LogisticRegression().fit(X[train], y[train]).predict_proba(X[test])
        parts.append(P)
        sure = [np.mean([P[i, k] for i in range(len(y)) if y[i] == k]) for k in range(3)]
        for i in range(len(y)):
            others = [k for k in range(3) if P[i, k] >= sure[k] and P[i, k] > P[i, y[i]]]
            keep[i] = not others
        parts.append(LogisticRegression().fit(X[keep], y[keep]).predict_proba(X))
    mean = np.mean(parts, axis=0)
    assert not keep.all()
    np.testing.assert_allclose(detector.probabilities_, mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(detector.label_scores_, -np.log(mean[range(len(y)), y]), atol=1e-8)


def test_rounds_help_where_labels_mislead():
    """With 40 % wrong, a row's own neighborhood speaks for the right label only after cleaning."""
    gains = []
    for seed in range(3):
        X, y, flipped = planted(n=200, wrong=80, seed=seed)
        auc = []
        for options in ({"method": "rounds"}, {"method": "loss", "cv": 5}):
            detector = NoisyLabelDetector(LogisticRegression(), random_state=0, **options)
            auc.append(roc_auc_score(flipped, detector.fit(X, y).label_scores_))
        gains.append(auc[0] - auc[1])
    assert np.mean(gains) > 0.003


def test_in_sample_loss_and_margin_by_hand():
    X, y, _ = planted()
    P = LogisticRegression().fit(X, y).predict_proba(X)
    own = P[np.arange(len(y)), y]
    loss = NoisyLabelDetector(LogisticRegression(), method="loss").fit(X, y)
    np.testing.assert_allclose(loss.label_scores_, -np.log(own))
    margin = NoisyLabelDetector(LogisticRegression(), method="margin").fit(X, y)
    P[np.arange(len(y)), y] = 0
    np.testing.assert_allclose(margin.label_scores_, P.max(axis=1) - own)


def test_out_of_fold_rows_are_not_learned_from():
    """Each row from models of other folds only, in the rows' own order."""
    X, y, _ = planted()
    folds = KFold(4)
    detector = NoisyLabelDetector(LogisticRegression(), method="loss", cv=folds).fit(X, y)
    for train, test in folds.split(X):
        P = LogisticRegression().fit(X[train], y[train]).predict_proba(X[test])
        np.testing.assert_allclose(detector.probabilities_[test], P)


def test_permuted_rows_permute_the_ranking():
    X, y, _ = planted()
    order = np.random.default_rng(1).permutation(len(y))
    for method, tolerance in (("loss", 1e-5), ("self_influence", 1e-3)):
        options = {"method": method, "contamination": 0.1, "random_state": 0}
        plain = NoisyLabelDetector(LogisticRegression(tol=1e-10), **options).fit(X, y)
        mixed = NoisyLabelDetector(LogisticRegression(tol=1e-10), **options).fit(X[order], y[order])
        np.testing.assert_allclose(
            mixed.label_scores_, plain.label_scores_[order], rtol=tolerance, atol=1e-9
        )
        np.testing.assert_array_equal(order[mixed.ranking_][:20], plain.ranking_[:20])


def test_validation_rows_by_hand():
    X, y, _ = planted()
    X_val, y_val = clouds(30, 7)
    detector = NoisyLabelDetector(
        LogisticRegression(), InfluenceFunction("ggn"), method="validation_influence"
    ).fit(X, y, X_val=X_val, y_val=y_val)
    scores = InfluenceFunction("ggn").fit(LogisticRegression().fit(X, y), X, y).score(X_val, y_val)
    np.testing.assert_allclose(detector.label_scores_, -scores.sum(axis=0))
    assert detector.suspected_.sum() == (scores.sum(axis=0) < 0).sum()


def test_further_training_measures_harm():
    X, y, flipped = planted(n=60, wrong=6)
    net = small_net()
    attributor = FurtherTraining(
        training=Training(lr=0.1, n_steps=3, batch_size=60), n_repeats=1, random_state=0
    )
    detector = NoisyLabelDetector(
        net, attributor, method="further_training", cv=2, random_state=0
    ).fit(X.astype(np.float32), y)
    assert roc_auc_score(flipped, detector.label_scores_) > 0.8


def test_skorch_nets_and_float64_rows():
    X, y, flipped = planted()
    before = torch.random.get_rng_state()
    net = make_pipeline(StandardScaler(), small_net()).fit(X.astype(np.float32), y)
    after_fit = torch.random.get_rng_state()
    first = NoisyLabelDetector(net, cv=3, n_rounds=1, random_state=0).fit(X.astype(np.float32), y)
    again = NoisyLabelDetector(net, cv=3, n_rounds=1, random_state=0).fit(X.astype(np.float32), y)
    assert torch.equal(torch.random.get_rng_state(), after_fit)
    assert not torch.equal(before, after_fit)
    np.testing.assert_array_equal(first.label_scores_, again.label_scores_)
    assert roc_auc_score(flipped, first.label_scores_) > 0.9


def test_a_net_is_read_by_label_where_a_fold_misses_a_class():
    X, y, _ = planted(n=90, wrong=0)
    folds = [(np.flatnonzero(y != k), np.flatnonzero(y == k)) for k in range(3)]
    net = NoisyLabelDetector(small_net(), method="loss", cv=folds, random_state=0)
    linear = NoisyLabelDetector(LogisticRegression(), method="loss", cv=folds)
    P = net.fit(X.astype(np.float32), y).probabilities_
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    assert (P[np.arange(90), y] < 0.5).all()  # a class never seen, yet it has its own column
    Q = linear.fit(X, y).probabilities_
    assert (Q[np.arange(90), y] == 0).all() and np.isfinite(linear.label_scores_).all()


def test_string_labels_frames_and_outlier_convention():
    X, y, _flipped = planted(names=["ant", "bee", "cow"])
    frame = pd.DataFrame(X, index=[f"r{i}" for i in range(len(X))])
    detector = NoisyLabelDetector(LogisticRegression(), random_state=0)
    said = detector.fit_predict(frame, pd.Series(y, index=frame.index))
    plain = NoisyLabelDetector(LogisticRegression(), random_state=0).fit(X, y)
    np.testing.assert_allclose(detector.label_scores_, plain.label_scores_)
    np.testing.assert_array_equal(said, np.where(plain.suspected_, -1, 1))
    assert detector.classes_.tolist() == ["ant", "bee", "cow"]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_contamination_counts_rows(share):
    X, y, _ = planted()
    detector = NoisyLabelDetector(LogisticRegression(), method="loss", contamination=share)
    assert detector.fit(X, y).suspected_.sum() == round(share * 120)


def test_estimator_learns_from_the_rows_not_suspected():
    X, y, _ = planted()
    detector = NoisyLabelDetector(LogisticRegression(), random_state=0).fit(X, y)
    clean = ~detector.suspected_
    expected = LogisticRegression().fit(X[clean], y[clean])
    np.testing.assert_allclose(detector.estimator_.coef_, expected.coef_)
    assert detector.score(X, y) == expected.score(X, y)
    X_new, y_new = clouds(30, 7)
    P = expected.predict_proba(X_new)
    scores = -np.log(P[np.arange(30), y_new])
    np.testing.assert_allclose(detector.score_samples(X_new, y_new), scores)
    y_bad = (y_new + 1) % 3
    assert (detector.predict(X_new, y_bad) == -1).mean() > 0.75
    assert (detector.predict(X_new, y_new) == 1).mean() > 0.8
    with pytest.raises(ValueError, match=r"\[7\], not among the classes"):
        detector.score_samples(X_new, y_new * 0 + 7)


class Unfittable(LogisticRegression):
    """Notices when it is fitted."""

    def fit(self, X, y):
        if getattr(self, "done", False):
            raise RuntimeError("fitted again")
        self.done = True
        return super().fit(X, y)


def test_frozen_estimator_is_not_fitted_again():
    X, y, _flipped = planted()
    model = Unfittable().fit(X, y)
    coef = model.coef_.copy()
    detector = NoisyLabelDetector(FrozenEstimator(model)).fit(X, y)
    assert detector.method_ == "loss"
    np.testing.assert_array_equal(model.coef_, coef)
    P = model.predict_proba(X)[np.arange(len(y)), y]
    np.testing.assert_allclose(detector.label_scores_, -np.log(P))
    for options, said in (
        ({"method": "rounds"}, "FrozenEstimator stays as it is"),
        ({"method": "loss", "cv": 3}, "nothing is out of fold"),
        ({"method": "validation_influence"}, "none is held out"),
    ):
        with pytest.raises(ValueError, match=said):
            NoisyLabelDetector(FrozenEstimator(model), **options).fit(X, y)


def test_regression_by_squared_error():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = X @ [1.0, -2.0] + 0.1 * rng.normal(size=60)
    y[7] += 5
    detector = NoisyLabelDetector(Ridge(), contamination=0.02).fit(X, y)
    residuals = y - Ridge().fit(X, y).predict(X)
    np.testing.assert_allclose(detector.label_scores_, residuals**2)
    folds = NoisyLabelDetector(LinearRegression(), cv=KFold(5), contamination=0.02).fit(X, y)
    H = np.column_stack([np.ones(60), X])
    for train, test in KFold(5).split(X):
        beta = np.linalg.lstsq(H[train], y[train], rcond=None)[0]
        np.testing.assert_allclose(folds.label_scores_[test], (y[test] - H[test] @ beta) ** 2)
    assert detector.ranking_[0] == folds.ranking_[0] == 7
    with pytest.raises(ValueError, match="is not a classifier"):
        NoisyLabelDetector(Ridge(), method="rounds").fit(X, y)


@pytest.mark.parametrize("tool", [NoisyLabelDetector, DatasetPruner])
def test_settings_of_one_training_are_refused_with_the_way_out(tool):
    X, y, _ = planted()
    net = NeuralNetClassifier(TwoLayers, callbacks=[EarlyStopping()], verbose=0)
    piped = Pipeline([("net", net)])
    for model, name in ((net, "callbacks=None"), (piped, "net__callbacks=None")):
        with pytest.raises(ValueError, match=f"monitors 'valid_loss'.*{name}"):
            tool(model).fit(X.astype(np.float32), y)


def test_scores_without_a_natural_count_only_rank():
    X = np.random.default_rng(0).normal(size=(30, 2))
    y = X @ [1.0, -2.0] + np.arange(30) % 3
    ranks = NoisyLabelDetector(Ridge()).fit(X, y)
    counts = NoisyLabelDetector(Ridge(), contamination=0.1).fit(X, y)
    np.testing.assert_array_equal(ranks.ranking_, counts.ranking_)
    assert not ranks.suspected_.any() and ranks.threshold_ == np.inf
    np.testing.assert_allclose(ranks.estimator_.coef_, Ridge().fit(X, y).coef_)
    for judge in (NoisyLabelDetector(Ridge()).fit_predict, ranks.predict):
        with pytest.raises(ValueError, match="no natural threshold"):
            judge(X, y)


class ByLabel(BaseEstimator):
    """A grouper: the model is given, and left alone."""

    def fit(self, model, X, y):
        self.labels_ = model.predict(X)
        return self


def test_groups_share_their_mean():
    X, y, _ = planted()
    plain = NoisyLabelDetector(LogisticRegression(), method="loss").fit(X, y)
    predicted = LogisticRegression().fit(X, y).predict(X)
    clusters = KMeans(4, n_init=1, random_state=0)
    by_gradients = KMeansGrouper(5, random_state=0)
    for grouper, groups in (
        (ByLabel(), predicted),
        (clusters, clone(clusters).fit_predict(X)),
        (by_gradients, clone(by_gradients).fit_predict(LogisticRegression().fit(X, y), X, y)),
        (RandomGrouper(9, random_state=0), RandomGrouper(9, random_state=0).fit_predict(0, X)),
    ):
        found = NoisyLabelDetector(LogisticRegression(), method="loss", grouper=grouper).fit(X, y)
        for label in np.unique(groups):
            own = groups == label
            np.testing.assert_allclose(found.label_scores_[own], plain.label_scores_[own].mean())


def test_clone_pickle_pipeline_and_search():
    X, y, _ = planted()
    detector = NoisyLabelDetector(LogisticRegression(C=0.3), cv=3, n_rounds=1, random_state=0)
    again = clone(detector)
    assert again.get_params()["estimator__C"] == 0.3 and again.estimator is not detector.estimator
    fitted = again.fit(X, y)
    assert not hasattr(again.estimator, "coef_")
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(fitted)).label_scores_, fitted.label_scores_
    )
    pipeline = make_pipeline(StandardScaler(), clone(detector)).fit(X, y)
    scaled = clone(detector).fit(StandardScaler().fit_transform(X), y)
    np.testing.assert_allclose(pipeline[-1].label_scores_, scaled.label_scores_)
    assert pipeline.score(X, y) == scaled.score(StandardScaler().fit_transform(X), y)
    np.testing.assert_array_equal(
        pipeline.predict(X, y=y), scaled.predict(StandardScaler().fit_transform(X), y)
    )
    grid = {"contamination": [0.05, 0.2], "estimator__C": [0.1, 1.0]}
    search = GridSearchCV(detector, grid, cv=2).fit(X, y)
    assert set(search.best_params_) == set(grid) and search.best_score_ > 0.5


@pytest.mark.parametrize(
    ("options", "y", "error", "said"),
    [
        ({"method": "magic"}, None, ValueError, "'method' parameter"),
        ({"contamination": 0.7}, None, ValueError, "'contamination' parameter"),
        ({"n_rounds": -1}, None, ValueError, "'n_rounds' parameter"),
        ({"attributor": "ggn"}, None, ValueError, "'attributor' parameter"),
        ({"estimator": LogisticRegression}, None, TypeError, "accepted is an estimator"),
        ({"estimator": LinearSVC()}, None, TypeError, "does not have class probabilities"),
        ({"cv": ShuffleSplit(3)}, None, ValueError, "hold out every row exactly once"),
        ({"method": "self_influence", "cv": 3}, None, ValueError, "learned from the row"),
        ({}, np.zeros(120), ValueError, "got only one class,"),
        ({}, np.zeros((120, 2)), ValueError, "accepted is one label for each row"),
        ({}, np.full(120, np.nan), ValueError, "NaN"),
        ({}, np.array(["a", None] * 60, dtype=object), ValueError, "missing labels"),
        ({}, "none", ValueError, "labels are needed"),
    ],
)
def test_errors_say_what_to_do(options, y, error, said):
    X, labels, _ = planted()
    y = labels if y is None else None if isinstance(y, str) else y
    with pytest.raises(error, match=said):
        NoisyLabelDetector(**{"estimator": LogisticRegression(), **options}).fit(X, y)


def test_trusted_rows_only_where_they_are_asked():
    X, y, _ = planted()
    with pytest.raises(ValueError, match="does not use trusted rows"):
        NoisyLabelDetector(LogisticRegression()).fit(X, y, X_val=X, y_val=y)
    detector = NoisyLabelDetector(LogisticRegression(), method="validation_influence", cv=3)
    with pytest.raises(ValueError, match="take the place of folds"):
        detector.fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="give both or neither"):
        detector.fit(X, y, X_val=X)


def test_diverged_training_is_reported():
    X, y, _ = planted()
    net = small_net().set_params(lr=1e30, max_epochs=5)
    with pytest.raises(ValueError, match="Training has diverged"):
        NoisyLabelDetector(net, method="loss").fit(X.astype(np.float32), y)


def test_missing_values_are_told_from_divergence():
    X, y, _ = planted()
    X = X.astype(np.float32)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"X: holds NaN or infinity.*SimpleImputer"):
        NoisyLabelDetector(small_net(), method="loss").fit(X, y)


def test_wrong_order_and_one_hot_labels_are_explained():
    X, y, _ = planted()
    with pytest.raises(TypeError, match=r"X: got the estimator LogisticRegression.*fit\(X, y\)"):
        NoisyLabelDetector(LogisticRegression()).fit(LogisticRegression(), X, y)
    with pytest.raises(ValueError, match=r"y: got shape.*y.argmax\(axis=1\)"):
        NoisyLabelDetector(LogisticRegression()).fit(X, np.eye(int(y.max()) + 1)[y])


def test_five_rows_of_every_class_are_kept():
    """All rows of class 1 are contradicted, and two of class 0."""
    P = np.array([[0.9, 0.1]] * 8 + [[0.05, 0.95]] * 2 + [[0.9 - 0.01 * i, 0.1] for i in range(8)])
    P[10:, 1] = 1 - P[10:, 0]
    y = np.repeat([0, 1], [10, 8])
    kept = kept_rows(P, y)
    assert kept[:8].all() and not kept[8:10].any()
    assert np.flatnonzero(kept[10:]).tolist() == [3, 4, 5, 6, 7]  # the least suspicious ones


def test_the_final_estimator_keeps_every_class():
    X, y, _ = planted(n=60, wrong=0)
    y[:6] = 3  # a class that no cloud stands for
    detector = NoisyLabelDetector(
        LogisticRegression(), method="loss", contamination=0.2, random_state=0
    ).fit(X, y)
    assert detector.suspected_[:6].all()
    assert detector.estimator_.classes_.tolist() == [0, 1, 2, 3]


def test_the_seed_reaches_the_estimator():
    X, y, _ = planted(n=60)
    net = MLPClassifier((3,), tol=10, n_iter_no_change=3)  # stops by itself after five epochs
    scores = [
        NoisyLabelDetector(net, method="loss", random_state=seed).fit(X, y).label_scores_
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 1e-3


def test_harm_is_summed_in_parts(monkeypatch):
    X, y, _ = planted(n=60)
    options = {"method": "validation_influence", "cv": 3, "random_state": 0}
    whole = NoisyLabelDetector(LogisticRegression(), **options).fit(X, y).label_scores_
    monkeypatch.setattr("influencekit.applications._values._SCORES", 130)
    parts = NoisyLabelDetector(LogisticRegression(), **options).fit(X, y).label_scores_
    np.testing.assert_allclose(parts, whole, atol=1e-12)


def test_contradiction_by_hand():
    P = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55], [0.8, 0.2]])
    y = np.array([0, 0, 1, 1, 0, 1])
    # means of the own class: (.9 + .6 + .45) / 3 = .65 and (.8 + .7 + .2) / 3 = .5667
    assert confidently_contradicted(P, y).tolist() == [False, False, False, False, False, True]
    assert kept_rows(P, y).all()  # three rows a class: none may go


def test_wrong_labels_are_counted_where_classes_overlap():
    """The surest fifth of each predicted class, by hand; and a count near the planted one."""
    P = np.array([[0.9, 0.1]] * 50 + [[0.6, 0.4]] * 50 + [[0.2, 0.8]] * 20)
    y = np.r_[np.ones(5), np.zeros(45), np.arange(50) % 2, np.zeros(1), np.ones(19)].astype(int)
    # 5 of the 20 surest rows among 100 predicted as 0; 1 of the 10 among 20 predicted as 1
    assert count_of_wrong(P, y) == 25 + 2
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 2))
    right = (X[:, 0] + rng.normal(size=1000) > 0).astype(int)  # a quarter on the other side
    y = np.where(rng.random(1000) < 0.1, 1 - right, right)
    detector = NoisyLabelDetector(LogisticRegression(), random_state=0).fit(X, y)
    assert 100 / 1.5 < detector.suspected_.sum() < 100 * 1.5


def test_methods_by_scores_only_cannot_judge_later_rows():
    X, y, _ = planted()
    detector = NoisyLabelDetector(
        LogisticRegression(), method="self_influence", contamination=0.1, refit=False
    ).fit(X, y)
    for name in ("predict", "score_samples", "score"):
        assert not hasattr(detector, name)
    assert not hasattr(detector, "estimator_")


def test_rows_without_labels_are_judged_by_the_label_that_is_predicted():
    X, y = load_iris(return_X_y=True)
    detector = NoisyLabelDetector(LogisticRegression(max_iter=1000), random_state=0)
    detector.fit(X, np.where(np.arange(150) % 15 == 0, (y + 1) % 3, y))
    highest = detector.estimator_.predict_proba(X).max(1)
    np.testing.assert_allclose(detector.score_samples(X), -np.log(highest))
    suspected = -np.log(highest) >= detector.threshold_
    np.testing.assert_array_equal(detector.predict(X), np.where(suspected, -1, 1))
    with pytest.raises(ValueError, match="X has 3 features, but NoisyLabelDetector is expecting 4"):
        detector.predict(X[:, :3])
