"""Displays of label issues and removal curves draw the numbers they were given."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit.applications import NoisyLabelDetector
from influencekit.applications._removal import RemovalCurve
from influencekit.displays import LabelIssuesDisplay, RemovalCurveDisplay

SCORES = np.array([0.1, 3.0, 0.2, 5.0, 0.3])
ISSUES = np.array([False, True, False, False, True])


def test_histogram_counts_rows():
    display = LabelIssuesDisplay(SCORES, threshold=2.0, issues=ISSUES).plot(bins=5)
    assert display.counts_["wrong"].sum() == 2 and display.counts_["right"].sum() == 3
    assert display.lines_["threshold"].get_xdata()[0] == 2.0
    plain = LabelIssuesDisplay(SCORES).plot(bins=5)
    np.testing.assert_array_equal(plain.counts_["all"], np.histogram(SCORES, 5)[0])
    assert "threshold" not in plain.lines_


def test_ranking_finds_issues_in_order():
    lines = LabelIssuesDisplay(SCORES, issues=ISSUES).plot(kind="ranking").lines_
    np.testing.assert_allclose(lines["found"].get_xdata(), [0, 20, 40, 60, 80, 100])
    np.testing.assert_allclose(lines["found"].get_ydata(), [0, 0, 50, 100, 100, 100])
    np.testing.assert_allclose(lines["best"].get_ydata(), [0, 50, 100, 100, 100, 100])
    np.testing.assert_allclose(lines["random"].get_ydata(), [0, 20, 40, 60, 80, 100])


def test_from_a_detector():
    X, y = load_iris(return_X_y=True)
    detector = NoisyLabelDetector(
        LogisticRegression(max_iter=500), method="loss", contamination=0.1
    ).fit(X, y)
    display = LabelIssuesDisplay.from_estimator(detector)
    assert display.lines_["threshold"].get_xdata()[0] == detector.threshold_
    assert display.counts_["all"].sum() == 150


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LabelIssuesDisplay([np.nan]), "without NaN"),
        (lambda: LabelIssuesDisplay(SCORES, issues=[1, 0]), "must be bool"),
        (lambda: LabelIssuesDisplay(SCORES).plot(kind="ranking"), "at least one row"),
        (lambda: LabelIssuesDisplay(SCORES).plot(kind="pie"), "kind: got 'pie'; accepted are"),
    ],
)
def test_errors(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_removal_curves_start_at_nothing_removed():
    values = np.array([[0.6, 0.7], [0.8, 0.9]])
    curve = RemovalCurve(
        np.array([0.3, 0.1]), {"IF": values}, values + 0.1, np.array([0.9, 1.0]), "harmful"
    )
    display = RemovalCurveDisplay.from_result(curve)
    assert list(display.lines_) == ["random", "IF"]
    np.testing.assert_allclose(display.lines_["IF"].get_xdata(), [0, 10, 30])
    np.testing.assert_allclose(display.lines_["IF"].get_ydata(), [0.95, 0.85, 0.65])
    np.testing.assert_allclose(display.lines_["random"].get_ydata(), [0.95, 0.95, 0.75])
    assert display.nothing_line_.get_ydata()[0] == pytest.approx(0.95)
    assert (
        "harmful" in display.ax_.get_xlabel()
        and display.ax_.get_ylabel() == "accuracy after retraining"
    )
    assert RemovalCurveDisplay(curve).plot(legend_loc=None).ax_.get_legend() is None
