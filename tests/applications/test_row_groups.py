"""Pruning and label checks by a GroupAttributor: groups have values, and are kept whole."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from influencekit import GradDot, InfluenceFunction, LDSSearch, SurrogateLambdaSearchCV
from influencekit.applications import DatasetPruner, NoisyLabelDetector
from influencekit.attributors import FurtherTraining
from influencekit.groups import GroupAttributor, KMeansGrouper, LabelGrouper, RandomGrouper

X, Y = (a[::2] for a in load_iris(return_X_y=True))
X_VAL, Y_VAL = (a[1::6] for a in load_iris(return_X_y=True))
LABELS = np.unique(np.random.default_rng(0).integers(0, 20, len(X)), return_inverse=True)[1]
SIZES = np.bincount(LABELS)
FOLDS = StratifiedKFold(5)


def model():
    return LogisticRegression(max_iter=1000)


def influence():
    return InfluenceFunction("fisher", 0.1)


def grouped(inner=None, grouper=None, **options):
    grouper = LabelGrouper(LABELS) if grouper is None else grouper
    return GroupAttributor(influence() if inner is None else inner, grouper, **options)


def pruned(attributor, **options):
    return DatasetPruner(model(), attributor, cv=FOLDS, random_state=0, **options).fit(X, Y)


def mean_scores():
    """Mean score of each row for the examples of the other folds, one fold after the other."""
    total = np.zeros(len(X))
    for train, test in FOLDS.split(X, Y):
        fitted = influence().fit(model().fit(X[train], Y[train]), X[train], Y[train])
        total[train] += fitted.score(X[test], Y[test]).sum(0)
    return total / (len(X) * 4 / 5)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_values_are_those_of_the_rows_of_a_group(reduce):
    sums = np.bincount(LABELS, weights=mean_scores())
    expected = (sums if reduce == "sum" else sums / SIZES)[LABELS]
    np.testing.assert_allclose(pruned(grouped(reduce=reduce)).values_, expected, rtol=1e-8)


def test_the_group_form_values_the_part_of_a_group_that_was_learned_from():
    share, total = np.zeros(len(X)), np.zeros(len(X))
    for train, test in FOLDS.split(X, Y):
        one = GroupAttributor(influence(), curvature="groups")
        one.fit(model().fit(X[train], Y[train]), X[train], Y[train], groups=LABELS[train])
        names = one.get_feature_names_out().astype(int)
        scores = dict(zip(names, one.score(X[test], Y[test]).sum(0), strict=True))
        size = np.bincount(LABELS[train], minlength=len(SIZES))
        share[:] = 0
        share[train] = [scores[g] / size[g] for g in LABELS[train]]
        total += share
    expected = np.bincount(LABELS, weights=total / (len(X) * 4 / 5))[LABELS]
    np.testing.assert_allclose(pruned(grouped(curvature="groups")).values_, expected, rtol=1e-8)


@pytest.mark.parametrize("strategy", ["lowest", "harmful", "weakest"])
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.6])
def test_whole_groups_go_in_order_while_they_fit(strategy, fraction):
    pruner = pruned(grouped(), strategy=strategy, stratify=False, fraction=fraction)
    sums = np.bincount(LABELS, weights=mean_scores())
    order = np.argsort(np.abs(sums) if strategy == "weakest" else sums)
    if strategy == "harmful":
        order = [g for g in order if sums[g] < 0]
    gone, left = [], round(fraction * len(X))
    for g in order:
        if SIZES[g] > left:
            break
        gone.append(g)
        left -= SIZES[g]
    np.testing.assert_array_equal(pruner.sample_indices_, np.flatnonzero(~np.isin(LABELS, gone)))


def test_classes_are_thinned_alike_and_mixed_groups_by_themselves():
    """Twelve groups of one class each, and one of several classes."""
    labels = Y * 4 + np.arange(len(X)) % 4
    labels[::10] = 12
    pruner = pruned(grouped(grouper=LabelGrouper(labels)), fraction=0.5)
    gone = np.setdiff1d(np.arange(len(X)), pruner.sample_indices_)
    assert set(labels[gone]).isdisjoint(labels[pruner.sample_indices_])
    assert 12 not in labels[gone]  # more than half of its stratum
    for c in range(3):
        own = np.flatnonzero((c == Y) & (labels != 12))
        left_out = np.isin(own, gone).sum()
        assert 0 < left_out <= round(len(own) / 2)
        following = pruner.values_[own][~np.isin(own, gone)].min()
        assert following > pruner.values_[own][np.isin(own, gone)].max()


def test_equal_groups_go_at_random_and_whole():
    found = []
    for seed in range(4):
        pruner = DatasetPruner(
            model(), grouped(GradDot()), strategy="random", stratify=False, random_state=seed
        ).fit(X, Y)
        pruner.values_ = np.zeros(len(X))
        kept = pruner.kept_at(0.3)
        assert set(LABELS[kept]).isdisjoint(np.delete(LABELS, kept))
        assert 0.7 * len(X) <= len(kept) < len(X)
        found.append(tuple(kept))
    assert len(set(found)) > 1


@pytest.mark.parametrize("options", [{}, {"curvature": "groups"}, {"reduce": "mean"}])
@pytest.mark.parametrize("strategy", ["lowest", "weakest"])
def test_groups_of_one_are_rows(options, strategy):
    inner = GradDot() if "curvature" not in options else influence()
    ones = pruned(GroupAttributor(inner, **options), strategy=strategy)
    if "curvature" not in options:  # the group form leaves the penalty out
        alone = pruned(inner, strategy=strategy)
        np.testing.assert_allclose(ones.values_, alone.values_)
        np.testing.assert_array_equal(ones.sample_indices_, alone.sample_indices_)
    assert len(ones.sample_indices_) == 75 - 3 * round(0.25 * 25)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("method", ["validation_influence", "self_influence"])
def test_rows_share_the_mean_score_of_their_group(method, reduce):
    options = {"method": method, "contamination": 0.1, "refit": False}
    trusted = (X_VAL, Y_VAL) if method == "validation_influence" else ()
    detector = NoisyLabelDetector(model(), grouped(reduce=reduce), **options).fit(X, Y, *trusted)
    alone = influence().fit(model().fit(X, Y), X, Y)
    scores = -alone.score(*trusted).sum(0) if trusted else alone.self_influence()
    expected = (np.bincount(LABELS, weights=scores) / SIZES)[LABELS]
    np.testing.assert_allclose(detector.label_scores_, expected, rtol=1e-8)


def test_label_scores_across_folds():
    options = {"method": "validation_influence", "cv": FOLDS, "refit": False}
    detector = NoisyLabelDetector(model(), grouped(), **options).fit(X, Y)
    expected = -(np.bincount(LABELS, weights=mean_scores()) / SIZES)[LABELS]
    np.testing.assert_allclose(detector.label_scores_, expected, rtol=1e-8)


def test_further_training_measures_each_group_once():
    inner = FurtherTraining(lr=0.01, n_repeats=1, random_state=0)
    options = {"method": "further_training", "refit": False}
    detector = NoisyLabelDetector(model(), grouped(inner), **options).fit(X, Y, X_VAL, Y_VAL)
    task = FurtherTraining(lr=0.01, n_repeats=1, random_state=0, groups=LABELS)
    scores = -task.fit(model().fit(X, Y), X, Y).score(X_VAL, Y_VAL).sum(0)
    np.testing.assert_allclose(detector.label_scores_, scores / SIZES[LABELS], rtol=1e-6)


@pytest.mark.parametrize(
    "grouper", [RandomGrouper(10), KMeansGrouper(6), KMeans(6, random_state=0)]
)
def test_groupers_see_all_rows_once(grouper):
    attributor = grouped(GradDot(), grouper)
    for used in (pruned(attributor), pruned(attributor, strategy="random")):
        labels = used._groups
        assert len(set(labels)) in (6, 10)
        assert set(labels[used.sample_indices_]).isdisjoint(np.delete(labels, used.sample_indices_))
    detector = NoisyLabelDetector(model(), attributor, method="validation_influence").fit(X, Y)
    assert len(np.unique(detector.label_scores_)) <= 10


def test_a_search_inside_groups():
    inner = SurrogateLambdaSearchCV(influence(), random_state=0)
    assert np.isfinite(pruned(grouped(inner)).values_).all()


REFUSED = {
    "property, one number": grouped(property="mean_neg_loss"),
    "around a GroupAttributor": SurrogateLambdaSearchCV(grouped()),
    "does not pass on": grouped(LDSSearch(influence())),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_gives_no_value_is_refused_before_any_work(words, monkeypatch):
    monkeypatch.setattr(LogisticRegression, "fit", None)
    with pytest.raises(ValueError, match=f"attributor: got.*{words}"):
        pruned(REFUSED[words])
    for method in ("validation_influence", "self_influence"):
        with pytest.raises(ValueError, match=f"attributor: got.*{words}"):
            NoisyLabelDetector(model(), REFUSED[words], method=method).fit(X, Y)


def test_groups_given_twice_and_groups_without_self_influence(monkeypatch):
    monkeypatch.setattr(LogisticRegression, "fit", None)
    with pytest.raises(ValueError, match="grouper: got one together with"):
        NoisyLabelDetector(
            model(), grouped(), method="validation_influence", grouper=RandomGrouper(3)
        ).fit(X, Y)
    with pytest.raises(ValueError, match="method: 'self_influence' is of single rows"):
        NoisyLabelDetector(model(), grouped(curvature="groups"), method="self_influence").fit(X, Y)
