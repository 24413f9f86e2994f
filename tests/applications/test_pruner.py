"""DatasetPruner against values and choices made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import GradDot, InfluenceFunction
from influencekit.applications import DatasetPruner, NoisyLabelDetector


def data(n=60):
    centers = [[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]]
    return make_blobs(n, centers=np.array(centers), cluster_std=1.2, random_state=0)


def values_by_hand(X, y, attributor, folds, estimator=None):
    """Mean score of each row for the examples of the folds that it is not in."""
    total, asked = np.zeros(len(y)), np.zeros(len(y))
    for train, test in folds.split(X):
        model = clone(estimator or LogisticRegression()).fit(X[train], y[train])
        scores = clone(attributor).fit(model, X[train], y[train]).score(X[test], y[test])
        for column, row in enumerate(train):
            total[row] += scores[:, column].sum()
            asked[row] += len(test)
    return total / asked


@pytest.mark.parametrize("attributor", [GradDot(), InfluenceFunction("ggn")])
def test_values_and_rows_by_hand(attributor):
    X, y = data()
    folds = KFold(3)
    pruner = DatasetPruner(
        LogisticRegression(), attributor, fraction=0.3, stratify=False, cv=folds, random_state=0
    )
    X_kept, y_kept = pruner.fit_resample(X, y)
    values = values_by_hand(X, y, attributor, folds)
    np.testing.assert_allclose(pruner.values_, values, rtol=1e-6, atol=1e-12)
    kept = np.sort(np.argsort(values)[18:])
    np.testing.assert_array_equal(pruner.sample_indices_, kept)
    np.testing.assert_array_equal(X_kept, X[kept])
    np.testing.assert_array_equal(y_kept, y[kept])


def test_strategies_by_hand():
    X, y = data()
    values = values_by_hand(X, y, GradDot(), KFold(3))
    assert 0 < (values < 0).sum() < 30
    expected = {
        "lowest": np.argsort(values)[:30],
        "weakest": np.argsort(np.abs(values))[:30],
        "harmful": np.flatnonzero(values < 0),
    }
    for strategy, gone in expected.items():
        pruner = DatasetPruner(
            LogisticRegression(),
            GradDot(),
            fraction=0.5,
            strategy=strategy,
            stratify=False,
            cv=KFold(3),
        ).fit(X, y)
        assert set(pruner.sample_indices_) == set(range(60)) - set(gone), strategy


def test_stratified_rows_leave_every_class_by_the_same_share():
    X, y = data(90)
    keep = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:10], np.flatnonzero(y == 2)[:20]]
    X, y = X[keep], y[keep]
    pruner = DatasetPruner(LogisticRegression(), fraction=0.5, cv=2, random_state=0).fit(X, y)
    assert np.bincount(y[pruner.sample_indices_]).tolist() == [15, 5, 10]
    for label in range(3):
        own = np.flatnonzero(y == label)
        gone = np.setdiff1d(own, pruner.sample_indices_)
        left = np.intersect1d(own, pruner.sample_indices_)
        assert pruner.values_[gone].max() <= pruner.values_[left].min()
    np.testing.assert_array_equal(pruner.kept_at(0.5), pruner.sample_indices_)
    assert set(pruner.kept_at(0.8)) < set(pruner.kept_at(0.5)) < set(pruner.kept_at(0.2))


def test_random_rows_fit_nothing_and_repeat():
    X, y = data()
    first = DatasetPruner("no estimator", strategy="random", stratify=False, random_state=3)
    second = clone(first).fit(X, y)
    np.testing.assert_array_equal(first.fit(X, y).sample_indices_, second.sample_indices_)
    assert len(first.sample_indices_) == 45
    other = clone(first).set_params(random_state=4).fit(X, y)
    assert set(other.sample_indices_) != set(first.sample_indices_)


@pytest.mark.parametrize("steps", [False, True])
def test_calibrated_classifiers_of_several_folds(steps):
    X, y = data()
    model = CalibratedClassifierCV(LogisticRegression(), cv=2)
    model = make_pipeline(StandardScaler(), model) if steps else model
    margins = GradDot(output="margin")
    pruner = DatasetPruner(model, margins, cv=KFold(3)).fit(X, y)
    expected = values_by_hand(X, y, margins, KFold(3), model)
    np.testing.assert_allclose(pruner.values_, expected, rtol=1e-9)
    assert len(DatasetPruner(model).fit_resample(X, y)[1]) == 45


def test_ties_are_broken_at_random():
    X, y = data()
    pruner = DatasetPruner("none", strategy="random", stratify=False, random_state=0).fit(X, y)
    pruner.values_ = np.zeros(60)
    gone = np.setdiff1d(np.arange(60), pruner.kept_at(0.5))
    assert len(gone) == 30 and gone[-1] - gone[0] - 29 > 5


def test_a_detector_gives_values():
    X, y = data()
    detector = NoisyLabelDetector(LogisticRegression(), method="loss", contamination=0.1)
    pruner = DatasetPruner(LogisticRegression(), detector, random_state=0).fit(X, y)
    np.testing.assert_allclose(pruner.values_, -detector.fit(X, y).label_scores_)


def test_containers_come_back_as_they_went_in():
    X, y = data()
    pruner = DatasetPruner(LogisticRegression(), GradDot(), cv=2, random_state=0)
    rows = pruner.fit(X, y).sample_indices_
    frame = pd.DataFrame(X, columns=["a", "b"], index=np.arange(60) + 100)
    X_kept, y_kept = pruner.fit_resample(frame, pd.Series(y, index=frame.index))
    assert list(X_kept.index) == list(y_kept.index) == list(rows + 100)
    X_kept, _ = pruner.fit_resample(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(X_kept.toarray(), X[rows])


def test_regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    y = X @ [1.0, 1.0] + 0.1 * rng.normal(size=40)
    y[5] += 8
    pruner = DatasetPruner(Ridge(), InfluenceFunction("ggn"), fraction=0.1, cv=2, random_state=0)
    assert 5 not in pruner.fit(X, y).sample_indices_


def test_the_only_row_of_a_class_explains_nothing():
    X, y = data(30)
    y[3] = 7
    pruner = DatasetPruner(LogisticRegression(), GradDot(), stratify=False, cv=KFold(3)).fit(X, y)
    assert np.isfinite(pruner.values_).all()
    others = np.arange(30) // 10 != 0  # rows of the folds in which row 3 is asked
    total, asked = np.zeros(30), np.zeros(30)
    for train, test in KFold(3).split(X):
        test = np.setdiff1d(test, [3])
        model = LogisticRegression().fit(X[train], y[train])
        scores = GradDot().fit(model, X[train], y[train]).score(X[test], y[test])
        total[train] += scores.sum(0)
        asked[train] += len(test)
    assert asked[others].tolist() == [19] * 20
    np.testing.assert_allclose(pruner.values_, total / asked, rtol=1e-6, atol=1e-12)


def test_scikit_learns_own_checks():
    pruner = DatasetPruner(LogisticRegression(), GradDot(), cv=2, random_state=0)
    words = "the error says what to do, in other words"
    expected = {"check_dtype_object": words, "check_requires_y_none": words}
    check_estimator(pruner, expected_failed_checks=expected, on_skip=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fraction": 1.0}, "'fraction' parameter"),
        ({"strategy": "best"}, "'strategy' parameter"),
        ({"attributor": "ggn"}, "'attributor' parameter"),
        ({"fraction": 0.999, "stratify": False, "strategy": "random"}, "leaves none"),
        ({"estimator": FrozenEstimator(LogisticRegression())}, "none is held out"),
    ],
)
def test_errors(options, said):
    X, y = data()
    with pytest.raises(ValueError, match=said):
        DatasetPruner(**{"estimator": LogisticRegression(), **options}).fit(X, y)


def diverging_net(lr=1e30):
    return NeuralNetClassifier(
        nn.Linear, module__in_features=2, module__out_features=3, max_epochs=8, lr=lr,
        optimizer__weight_decay=1.0, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    )  # fmt: skip


def test_a_net_that_diverges_gives_no_values():
    X, y = data()
    X = X.astype(np.float32)
    said = r"parameter 'weight' holds NaN or infinity after training under seed \d+ on 40 rows"
    with pytest.raises(ValueError, match=said):
        DatasetPruner(diverging_net(), GradDot(), cv=3, random_state=0).fit(X, y)
    detector = NoisyLabelDetector(diverging_net(), method="self_influence", contamination=0.1)
    with pytest.raises(ValueError, match=r"on 60 rows. Training has diverged"):
        DatasetPruner(diverging_net(), detector, random_state=0).fit(X, y)


class DivergesOnFewer(LogisticRegression):
    """Its training diverges on fewer than 60 rows."""

    def fit(self, X, y):
        super().fit(X, y)
        if len(X) < 60:
            self.coef_[0, 0] = np.nan
        return self


def test_a_detector_that_is_refitted_in_vain():
    """The scores are sound; the last fit, without the suspected rows, is not."""
    X, y = data()
    detector = NoisyLabelDetector(DivergesOnFewer(), method="loss", contamination=0.1)
    with pytest.raises(ValueError, match=r"'coef_' .* training under seed \d+ on 54 rows"):
        detector.fit(X, y)
    assert not hasattr(detector.set_params(refit=False).fit(X, y), "estimator_")
