"""What fairness tools are given beside X and y is checked as X and y are."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.svm import LinearSVC

from influencekit import GradDot, InfluenceFunction, retrain_on_subsets
from influencekit.applications import fairness_gap, group_counterfactual, removal_curve
from influencekit.exceptions import InfluenceKitWarning
from influencekit.groups import (
    DemographicParityDifference,
    EqualizedOddsDifference,
    GroupAttributor,
    leave_group_out,
)

RNG = np.random.default_rng(0)
N = 200
A = RNG.normal(size=(N, 4))
Y = (A[:, 0] + RNG.normal(size=N) > 0).astype(int)
S = RNG.choice(["a", "b"], N)
T = RNG.choice(["u", "v"], N)
MODEL = LogisticRegression().fit(A, Y)
P = MODEL.predict_proba(A)[:, 1]


def spread(values, groups):
    means = [values[groups == g].mean() for g in np.unique(groups)]
    return max(means) - min(means)


EXPECTED = {
    "demographic_parity": spread(P, S),
    "equal_opportunity": spread(P[Y == 1], S[Y == 1]),
    "equalized_odds": max(spread(P[k == Y], S[k == Y]) for k in (0, 1)),
    "accuracy": spread(np.where(Y, P, 1 - P), S),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_gap_is_of_mean_probabilities(kind):
    assert fairness_gap(P, Y, S, kind) == pytest.approx(EXPECTED[kind])
    rates = fairness_gap((P >= 0.5).astype(float), Y, S, kind)
    assert fairness_gap(P, Y, S, kind, threshold=0.5) == pytest.approx(rates)


@pytest.mark.parametrize("kind", [k for k in EXPECTED if k != "demographic_parity"])
@pytest.mark.parametrize(
    ("y", "positive"),
    [
        (np.where(Y, ">50K", "<=50K"), ">50K"),
        (Y + 1, 2),
        (1 - Y, 0),
        (pd.Series(Y, dtype="category"), None),
        (Y.astype(bool), None),
        (pd.DataFrame({"label": Y}), None),
    ],
)
def test_labels_of_other_names(kind, y, positive):
    found = fairness_gap(P, y, S, kind, positive=positive)
    assert found == pytest.approx(EXPECTED[kind])


@pytest.mark.parametrize("y", [Y + 1, 2 * Y - 1, np.where(Y, "yes", "no")])
def test_labels_other_than_0_and_1_are_refused(y):
    with pytest.raises(ValueError, match=r"y: got the labels .*accepted are 0 and 1.*positive="):
        fairness_gap(P, y, S, "accuracy")
    assert fairness_gap(P, y, S) == pytest.approx(EXPECTED["demographic_parity"])
    with pytest.raises(ValueError, match="positive: got 'other'"):
        fairness_gap(P, y, S, "accuracy", positive="other")


MISSING = pd.Series(S).where(S == "a")


@pytest.mark.parametrize("bad", [MISSING, MISSING.to_numpy(), np.where(S == "a", 1.0, np.nan)])
def test_missing_values_are_named(bad):
    with pytest.raises(ValueError, match=r"sensitive: .* rows have a missing label"):
        fairness_gap(P, Y, bad)
    with pytest.raises(ValueError, match=r"sensitive: .* rows have a missing label"):
        DemographicParityDifference(bad)
    with pytest.raises(ValueError, match=r"groups: .* rows have a missing label"):
        group_counterfactual(MODEL, A, Y, A, Y, bad, sensitive=S)
    with pytest.raises(ValueError, match=r"groups: .* rows have a missing label"):
        removal_curve(MODEL, A, Y, A, Y, [1.0, 2.0], groups=bad)
    with pytest.raises(ValueError, match=r"groups: .* rows have a missing label"):
        leave_group_out(MODEL, A, Y, A, Y, bad)
    y = np.where(MISSING.isna(), np.nan, Y)
    with pytest.raises(ValueError, match=r"y: .* rows have a missing label"):
        fairness_gap(P, y, S, "accuracy")
    with pytest.raises(ValueError, match=r"y_query: .* rows have a missing label"):
        group_counterfactual(MODEL, A, Y, A, y, S, sensitive=S)


class OtherFrame:
    """A frame of another library: columns by name, no rows by position."""

    def __init__(self, **columns):
        self._columns = columns
        self.columns = list(columns)
        self.shape = (N, len(columns))

    def __len__(self):
        return N

    def __getitem__(self, name):
        return self._columns[name]

    def to_numpy(self):
        return np.column_stack(list(self._columns.values()))


CROSSED = np.char.add(S, T)
TWO = {"frame": pd.DataFrame({"s": S, "t": T}), "array": np.c_[S, T], "other": OtherFrame(s=S, t=T)}


@pytest.mark.parametrize("kind", TWO)
def test_several_columns_everywhere(kind):
    two = TWO[kind]
    assert fairness_gap(P, Y, two) == pytest.approx(spread(P, CROSSED))
    gap = DemographicParityDifference(two)
    grouped = GroupAttributor(GradDot(), property=gap).fit(MODEL, A, Y, groups=two)
    assert grouped.score(A, Y).shape == (1, 4)
    assert grouped.property_value_ == pytest.approx(spread(P, CROSSED))
    found = group_counterfactual(MODEL, A, Y, A, Y, two, sensitive=two, n_repeats=1, random_state=0)
    assert sorted(found.sizes) == sorted(np.unique(CROSSED, return_counts=True)[1])
    assert found.full[0] == pytest.approx(spread(P, CROSSED), abs=1e-6)
    curve = removal_curve(
        MODEL, A, Y, A, Y, np.arange(4.0), groups=two, fractions=[0.2], n_repeats=1
    )
    assert np.isfinite(curve.curves["scores"]).all()
    assert leave_group_out(MODEL, A, Y, A[:5], Y[:5], two, n_repeats=1).scores.shape == (5, 4)


def test_row_labels_in_another_order_are_told():
    frame = pd.DataFrame(A, columns=list("abcd"))
    people = pd.Series(S).sample(frac=1, random_state=0)
    with pytest.warns(InfluenceKitWarning, match=r"y, sensitive: their row labels are the same"):
        fairness_gap(P, pd.Series(Y), people)
    model = LogisticRegression().fit(frame, Y)
    with pytest.warns(InfluenceKitWarning, match=r"X, groups: their row labels"):
        GroupAttributor(GradDot()).fit(model, frame, Y, groups=people)
    with pytest.warns(InfluenceKitWarning, match=r"X_query, sensitive: their row labels"):
        group_counterfactual(model, frame, Y, frame, Y, S, sensitive=people, n_repeats=1)
    gap = DemographicParityDifference(people)
    grouped = GroupAttributor(GradDot(), property=gap).fit(model, frame, Y, groups=S)
    with pytest.warns(InfluenceKitWarning, match=r"X, sensitive: their row labels"):
        grouped.score(frame, Y)


CLASSIFIERS = [
    SGDClassifier(loss="modified_huber", alpha=0.01, random_state=0),
    SGDClassifier(loss="log_loss", alpha=0.01, random_state=0),
    LogisticRegression(),
]


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_probabilities_are_those_of_predict_proba(model):
    p = model.fit(A, Y).predict_proba(A)[:, 1]
    grouped = GroupAttributor(GradDot(), property=DemographicParityDifference(S))
    grouped.fit(model, A, Y, groups=S).score(A, Y)
    assert grouped.property_value_ == pytest.approx(spread(p, S), abs=1e-6)
    found = group_counterfactual(model, A, Y, A, Y, S, sensitive=S, n_repeats=2, random_state=0)
    refit = model.fit(A, Y).predict_proba(A)[:, 1]
    assert found.full.mean() == pytest.approx(spread(refit, S), abs=0.02)


@pytest.mark.parametrize("gap", [DemographicParityDifference(S), EqualizedOddsDifference(S)])
def test_a_regressor_is_refused(gap):
    model = Ridge().fit(A, Y)
    with pytest.raises(ValueError, match="property: class probabilities are needed, but Ridge"):
        GroupAttributor(GradDot(), property=gap).fit(model, A, Y, groups=S)
    with pytest.raises(ValueError, match="model: class probabilities are needed, but Ridge"):
        group_counterfactual(model, A, Y, A, Y, S, sensitive=S)


def test_one_against_rest_targets_in_a_removal_curve():
    """Accuracy of models that encode three classes as columns."""
    y3 = (A[:, 0] > 0).astype(int) + (A[:, 1] > 0.5)
    model = SGDClassifier(loss="log_loss", random_state=0).fit(A, y3)
    curve = removal_curve(
        model, A, y3, A, y3, np.arange(N) * 1.0, fractions=[0.3], n_repeats=1, random_state=0
    )
    truth = retrain_on_subsets(
        model,
        A,
        y3,
        A,
        y3,
        masks=np.ones((1, N), bool),
        output=lambda outputs, targets: outputs.argmax(1).double(),
        random_state=0,
    )
    assert curve.nothing[0] == pytest.approx(np.mean(truth.outputs[0, 0] == y3), abs=0.1)
    assert InfluenceFunction().fit(model, A, y3).score(A[:5], y3[:5]).shape == (5, N)


def test_group_effects_carry_an_error_bar():
    """Spread over the people asked, beside the normal formula for a difference of means."""
    found = group_counterfactual(MODEL, A, Y, A, Y, T, sensitive=S, n_repeats=1, random_state=0)
    changes = []
    for group in "uv":
        own = group != T
        changes.append(P - LogisticRegression().fit(A[own], Y[own]).predict_proba(A)[:, 1])
    sign = np.sign(P[S == "a"].mean() - P[S == "b"].mean())
    for change, effect, error in zip(changes, found.effects(), found.sampling_errors, strict=True):
        expected = np.sqrt(sum(change[g == S].var() / (g == S).sum() for g in "ab"))
        difference = change[S == "a"].mean() - change[S == "b"].mean()
        assert effect == pytest.approx(sign * difference, abs=1e-6)
        assert expected / 3 < error < 3 * expected
    assert "sampling_error" in found.to_frame()


def test_groups_of_several_types():
    mixed = np.array([1 if group == "a" else "b" for group in S], dtype=object)
    assert fairness_gap(P, Y, mixed) == pytest.approx(EXPECTED["demographic_parity"])
    assert DemographicParityDifference(mixed).groups.tolist() == ["1", "b"]


@pytest.mark.parametrize("positive", ["yes", -1, 1.0, None])
def test_a_label_is_no_position(positive):
    with pytest.raises(ValueError, match=r"positive: got .*list\(model.classes_\)"):
        EqualizedOddsDifference(S, positive=positive)


def test_a_position_beyond_the_classes():
    fair = GroupAttributor(GradDot(), property=DemographicParityDifference(S, positive=2))
    with pytest.raises(ValueError, match=r"positive: got 2, but the model has 2 classes"):
        fair.fit(MODEL, A, Y, groups=S).score(A, Y)


CALIBRATED = [
    CalibratedClassifierCV(LinearSVC(), cv=3, ensemble=False),
    CalibratedClassifierCV(LogisticRegression(), cv=3, ensemble=False, method="isotonic"),
]


@pytest.mark.parametrize("model", CALIBRATED)
def test_counterfactuals_of_a_calibrated_classifier(model):
    found = group_counterfactual(model, A, Y, A, Y, T, sensitive=S, left_out=["u"], n_repeats=1)
    gaps = [
        spread(clone(model).fit(A[kept], Y[kept]).predict_proba(A)[:, 1], S)
        for kept in (T != "", T != "u")
    ]
    assert found.full == pytest.approx(gaps[0], abs=1e-9)
    assert found.without.ravel() == pytest.approx(gaps[1], abs=1e-9)


def test_a_gap_without_the_calibration_is_told():
    model = CalibratedClassifierCV(LogisticRegression(), cv=3).fit(A, Y)
    fair = GroupAttributor(GradDot(), property=DemographicParityDifference(S))
    with pytest.warns(InfluenceKitWarning, match=r"without the calibration.*predict_proba"):
        fair.fit(model, A, Y, groups=T)
