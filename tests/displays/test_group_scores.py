"""Bars of groups: order, signs, measured effects, errors."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import GradDot, InfluenceFunction, SurrogateLambdaSearchCV
from influencekit.displays import GroupScoresDisplay, LambdaPathDisplay, TopExamplesDisplay
from influencekit.groups import (
    DemographicParityDifference,
    GroupAttributor,
    LabelGrouper,
)

SCORES, NAMES = [0.1, -0.4, 0.3, 0.0], ["a", "b", "c", "d"]


def test_bars_by_size_then_in_order():
    display = GroupScoresDisplay(SCORES, NAMES).plot(most=3)
    assert display.order_.tolist() == [2, 0, 1]
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], [0.3, 0.1, -0.4])
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["c", "a", "b"]
    assert display.bars_[2].get_hatch() and not display.bars_[0].get_hatch()
    assert display.ax_.get_title() == "the 3 largest of 4 groups"
    assert GroupScoresDisplay(SCORES, NAMES).plot().ax_.get_title() == ""


def test_measured_effects_stand_beside():
    display = GroupScoresDisplay(SCORES, NAMES, [0.2, -0.5, np.nan, 0.0], [0.1] * 4).plot()
    line = display.ax_.get_legend_handles_labels()[1]
    assert line == ["measured by retraining"]


def test_from_a_group_attributor():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    X, y = X[10:], y[10:]  # groups of 40, 50 and 50
    grouped = GroupAttributor(GradDot()).fit(model, X, y, groups=y)
    display = GroupScoresDisplay.from_estimator(grouped, X[:9], y[:9])
    labels = {text.get_text() for text in display.ax_.get_yticklabels()}
    assert labels == {"0 (40 rows)", "1 (50 rows)", "2 (50 rows)"}
    expected = grouped.score(X[:9], y[:9]).mean(0)
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], np.sort(expected)[::-1])


def test_axis_says_what_is_predicted_and_in_which_direction():
    X, y = load_iris(return_X_y=True)
    X, y = X[y > 0], y[y > 0] - 1
    model = LogisticRegression(max_iter=500).fit(X, y)
    groups, sensitive = np.arange(100) % 3, X[:, 0] > 6
    grouped = GroupAttributor(InfluenceFunction(), property=DemographicParityDifference(sensitive))
    grouped.fit(model, X, y, groups=groups)
    display = GroupScoresDisplay.from_estimator(grouped, X, y)
    said = "predicted fall of DemographicParityDifference without the group"
    assert display.ax_.get_xlabel() == said
    kept = groups != int(grouped.group_names_[display.order_[0]])
    refitted = LogisticRegression(max_iter=500).fit(X[kept], y[kept])

    def gap(fitted):
        chance = fitted.predict_proba(X)[:, 1]
        return abs(chance[sensitive].mean() - chance[~sensitive].mean())

    fall = gap(model) - gap(refitted)
    assert np.sign(fall) == np.sign(display.bars_[0].get_width())


def test_from_a_search_around_groups():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    grouped = GroupAttributor(InfluenceFunction("fisher"), LabelGrouper(y))
    search = SurrogateLambdaSearchCV(grouped, random_state=0).fit(model, X, y)
    display = GroupScoresDisplay.from_estimator(search, X[:9], y[:9])
    chosen = InfluenceFunction("fisher", search.best_params_["attributor__damping"])
    scores = chosen.fit(model, X, y).score(X[:9], y[:9]).mean(0)
    expected = [scores[y == group].sum() for group in range(3)]
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], np.sort(expected)[::-1])
    path = LambdaPathDisplay.from_estimator(search)
    np.testing.assert_array_equal(
        path.dampings, search.cv_results_["param_attributor__damping"][1:]
    )
    with pytest.raises(TypeError, match="grouped: got GradDot, which scores single"):
        GroupScoresDisplay.from_estimator(GradDot().fit(model, X, y), X[:9], y[:9])
    with pytest.raises(TypeError, match="attributor: got SurrogateLambdaSearchCV, which scores"):
        TopExamplesDisplay.from_estimator(search, X, X[:9])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"names": ["a"]}, "names: got 1"),
        ({"measured": [1.0]}, r"measured: got shape \(1,\)"),
        ({"sizes": [3]}, r"sizes: got shape \(1,\)"),
    ],
)
def test_errors(options, said):
    with pytest.raises(ValueError, match=said):
        GroupScoresDisplay(**({"scores": SCORES, "names": NAMES} | options))
