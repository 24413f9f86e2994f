"""Tools that train again, on models without gradients: each against plain refits."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC, LinearSVC

from influencekit import InfluenceFunction, LDSSearch, TreeInfluence, retrain_on_subsets
from influencekit.applications import (
    DatasetPruner,
    NoisyLabelDetector,
    group_counterfactual,
    removal_curve,
    score_then_retrain,
)
from influencekit.data import make_examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.groups import DemographicParityDifference, GroupAttributor, leave_group_out
from influencekit.models.trees._task import tree_task

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 4))
Y = np.where(X[:, 0] + 0.5 * rng.normal(size=80) > 0, "yes", "no")
AREA = rng.choice(["a", "b"], 80)
TRAIN, QUERY = slice(0, 60), slice(60, 80)
DATA = X[TRAIN], Y[TRAIN], X[QUERY], Y[QUERY]

STACK = StackingClassifier([("near", KNeighborsClassifier()), ("bayes", GaussianNB())], cv=2)
MODELS = [
    KNeighborsClassifier(4),
    SVC(),
    CalibratedClassifierCV(LinearSVC(), cv=2),
    STACK,
    HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=5),
]


def refit(model, mask):
    """Fitted on some rows; nothing in these models is drawn, so that no seed matters."""
    return clone(model).fit(X[TRAIN][mask], Y[TRAIN][mask])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_removal_curves(model):
    scores = rng.normal(size=60)
    options = {"fractions": [0.25], "n_random": 1, "n_repeats": 1, "random_state": 0}
    found = removal_curve(model, *DATA, scores, **options)
    without = np.ones(60, dtype=bool)
    without[np.argsort(-scores)[:15]] = False
    right = [
        np.mean(refit(model, mask).predict(X[QUERY]) == Y[QUERY])
        for mask in (np.ones(60, dtype=bool), without)
    ]
    assert [found.nothing[0], found.curves["scores"][0, 0]] == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize(
    "model", [m for m in MODELS if not isinstance(m, SVC)], ids=lambda model: type(model).__name__
)
def test_gaps_without_a_group(model):
    found = group_counterfactual(
        model, *DATA, AREA[TRAIN], sensitive=AREA[QUERY], n_repeats=1, random_state=0
    )
    for gap, mask in (
        (found.full, np.ones(60, dtype=bool)),
        (found.without[0], AREA[TRAIN] != "a"),
    ):
        p = refit(model, mask).predict_proba(X[QUERY])[:, 1]
        assert gap[0] == pytest.approx(abs(np.diff([p[AREA[QUERY] == a].mean() for a in "ab"])[0]))
    property = DemographicParityDifference(AREA[QUERY])
    same = leave_group_out(model, *DATA, AREA[TRAIN], property=property, n_repeats=1)
    np.testing.assert_allclose(same.full[:, 0], found.full, atol=1e-9)
    np.testing.assert_allclose(same.without[..., 0], found.without, atol=1e-9)


def test_a_gap_of_a_class_that_a_group_alone_holds():
    """Without the only group that says yes nobody is given a chance."""
    groups = np.where(Y[TRAIN] == "yes", "only", "rest")
    found = group_counterfactual(
        KNeighborsClassifier(4),
        *DATA,
        groups,
        sensitive=AREA[QUERY],
        left_out=["only"],
        n_repeats=1,
        random_state=0,
    )
    assert found.full[0] > 0 and found.without[0, 0] == 0.0


def test_groups_left_out():
    for model, y in ((KNeighborsClassifier(4), Y), (KNeighborsRegressor(4), X[:, 1] ** 2)):
        data = X[TRAIN], y[TRAIN], X[QUERY], y[QUERY]
        found = leave_group_out(model, *data, AREA[TRAIN], n_repeats=1)
        near = clone(model).fit(X[TRAIN][AREA[TRAIN] != "a"], y[TRAIN][AREA[TRAIN] != "a"])
        if y is Y:
            p = near.predict_proba(X[QUERY])[np.arange(20), (Y[QUERY] == "yes").astype(int)]
            expected = np.log(np.maximum(p, 1 / 8))
        else:
            expected = -np.square(near.predict(X[QUERY]) - y[QUERY])
        np.testing.assert_array_equal(found.without[0, 0], expected)
        mean = leave_group_out(model, *data, AREA[TRAIN], property="mean_neg_loss", n_repeats=1)
        assert mean.without[0, 0, 0] == pytest.approx(expected.mean())
    spread = leave_group_out(
        model, *data, AREA[TRAIN], property=lambda outputs, targets: outputs.std(), n_repeats=1
    )
    assert spread.without[0, 0, 0] == pytest.approx(near.predict(X[QUERY]).std(ddof=1))


def test_what_trees_are_trained_to_is_what_their_scores_explain():
    """Losses in one unit, so that scores and changes can be laid side by side."""
    for forest, y in ((RandomForestClassifier(6), Y), (HistGradientBoostingRegressor(), X[:, 0])):
        fitted = clone(forest).set_params(random_state=0, max_depth=2).fit(X[TRAIN], y[TRAIN])
        data = X[TRAIN], y[TRAIN], X[QUERY], y[QUERY]
        again = retrain_on_subsets(fitted, *data, masks=np.ones((1, 60), bool), random_state=0)
        seed = int(again.seeds[0, 0])
        task = tree_task(clone(fitted).set_params(random_state=seed).fit(X[TRAIN], y[TRAIN]))
        queries = make_examples(task, X[QUERY], y[QUERY])
        batch = next(queries.batches(20))
        loss = task.loss(task.forward(batch.inputs), batch.targets)
        np.testing.assert_allclose(again.outputs[0, 0], -loss.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [RandomForestClassifier(5), KNeighborsClassifier(), STACK],
    ids=lambda model: type(model).__name__,
)
def test_wrong_labels(model):
    y = Y[TRAIN].copy()
    y[[3, 30]] = np.where(y[[3, 30]] == "yes", "no", "yes")
    detector = NoisyLabelDetector(model, method="loss", cv=3, random_state=0).fit(X[TRAIN], y)
    pruner = DatasetPruner(model, detector, fraction=0.1, stratify=False, random_state=0)
    rows = pruner.fit(X[TRAIN], y).sample_indices_
    np.testing.assert_array_equal(pruner.values_, -detector.label_scores_)
    assert len(rows) == 54
    out = np.setdiff1d(np.arange(60), rows)
    assert detector.label_scores_[out].min() >= detector.label_scores_[rows].max()


def test_trees_are_pruned_by_their_own_attributor():
    options = {"fraction": 0.2, "cv": 3, "random_state": 0}
    cases = (
        (RandomForestClassifier(5), Y, "margin"),
        (RandomForestRegressor(5), X[:, 0], "auto"),
    )
    for forest, y, output in cases:
        own = DatasetPruner(forest, **options).fit(X, y)
        asked = DatasetPruner(forest, TreeInfluence(output=output), **options).fit(X, y)
        np.testing.assert_array_equal(own.values_, asked.values_)
    grouped = GroupAttributor(TreeInfluence())
    alone = DatasetPruner(forest, grouped, **options).fit(X, y).values_
    np.testing.assert_allclose(alone, asked.values_)
    harm = NoisyLabelDetector(forest, method="self_influence", random_state=0).fit(X, y)
    assert isinstance(harm.attributor_, TreeInfluence)


class Unfitted(ClassifierMixin, BaseEstimator):
    """No gradients; being fitted is an error."""

    def fit(self, X, y):
        raise AssertionError("fitted")

    def predict(self, X):
        raise AssertionError("asked")


class Forest(RandomForestClassifier):
    """Being fitted is an error."""

    def fit(self, X, y, sample_weight=None):
        raise AssertionError("fitted")


class Boosting(GradientBoostingClassifier):
    """Being fitted is an error."""

    def fit(self, X, y, sample_weight=None):
        raise AssertionError("fitted")


class Histograms(HistGradientBoostingRegressor):
    """Being fitted is an error."""

    def fit(self, X, y, sample_weight=None):
        raise AssertionError("fitted")


@pytest.mark.parametrize(
    ("tool", "error", "message"),
    [
        (
            lambda: DatasetPruner(Boosting(loss="exponential")).fit(*DATA[:2]),
            UnsupportedModelError,
            "cannot read Boosting. What needs no gradients.*'exponential'",
        ),
        (
            lambda: DatasetPruner(Boosting(init=GaussianNB())).fit(*DATA[:2]),
            UnsupportedModelError,
            r"init=GaussianNB\(\)",
        ),
        (
            lambda: NoisyLabelDetector(
                Histograms(loss="absolute_error"), method="self_influence"
            ).fit(DATA[0], DATA[0][:, 0]),
            UnsupportedModelError,
            "'absolute_error'",
        ),
        (lambda: DatasetPruner(Unfitted()).fit(*DATA[:2]), UnsupportedModelError, "Wrap it in"),
        (
            lambda: DatasetPruner(Forest(), InfluenceFunction()).fit(*DATA[:2]),
            UnsupportedModelError,
            r"attributor=TreeInfluence\(\)",
        ),
        (
            lambda: NoisyLabelDetector(Unfitted()).fit(*DATA[:2]),
            TypeError,
            "CalibratedClassifierCV",
        ),
        (
            lambda: NoisyLabelDetector(Forest(), method="further_training").fit(*DATA[:2]),
            UnsupportedModelError,
            "method='auto'",
        ),
        (
            lambda: group_counterfactual(Unfitted(), *DATA, AREA[TRAIN], sensitive=AREA[QUERY]),
            ValueError,
            "class probabilities are needed",
        ),
        (
            lambda: leave_group_out(
                Unfitted(), *DATA, AREA[TRAIN], property=DemographicParityDifference(AREA[QUERY])
            ),
            ValueError,
            "class probabilities are needed",
        ),
        (lambda: score_then_retrain(Unfitted(), *DATA), TypeError, "DatasetPruner leaves out"),
        (
            lambda: LDSSearch(InfluenceFunction()).fit(
                Unfitted(), *DATA[:2], X_query=DATA[2], y_query=DATA[3]
            ),
            UnsupportedModelError,
            "retrain_on_subsets, removal_curve",
        ),
        (
            lambda: LDSSearch(InfluenceFunction()).fit(
                Forest(), *DATA[:2], X_query=DATA[2], y_query=DATA[3]
            ),
            UnsupportedModelError,
            "TreeInfluence.*retrain_on_subsets",
        ),
        (
            lambda: removal_curve(LogisticRegression(), *DATA, X[TRAIN, 0], output="prediction"),
            ValueError,
            "is a classifier, for which",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_training(tool, error, message):
    with pytest.raises(error, match=message):
        tool()
