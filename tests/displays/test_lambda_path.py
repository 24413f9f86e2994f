"""What the picture of the path shows, read back from its artists."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from influencekit.displays import LambdaPathDisplay
from influencekit.exceptions import LambdaPathWarning

DAMPINGS = np.geomspace(1e-6, 1e2, 17)
XI = 1 / (1 + DAMPINGS**-0.7 / 30)


def band(ax, i=0):
    """Lower and upper edge of a filled band at each of its x values."""
    vertices = ax.collections[i].get_paths()[0].vertices
    return {x: (min(ys), max(ys)) for x, ys in _by_x(vertices).items()}


def _by_x(vertices):
    found = {}
    for x, y in vertices:
        found.setdefault(x, []).append(y)
    return found


def test_curve_band_and_threshold():
    std = np.linspace(0.01, 0.1, 17)
    display = LambdaPathDisplay(DAMPINGS, XI, std, threshold=0.4)
    assert display.plot() is display
    ax = display.ax_
    assert ax.get_xscale() == "log" and ax.figure is display.figure_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("damping λ", "mean ξ")
    assert ax.get_ylim()[0] == 0 and 1 <= ax.get_ylim()[1] < 1.1
    np.testing.assert_array_equal(display.line_.get_xdata(), DAMPINGS)
    np.testing.assert_array_equal(display.line_.get_ydata(), XI)
    assert set(display.threshold_line_.get_ydata()) == {0.4}
    edges = band(ax)
    for damping, xi, width in zip(DAMPINGS, XI, std, strict=True):
        np.testing.assert_allclose(edges[damping], (xi - width, xi + width))
    assert display.ax_lds_ is None and display.lds_line_ is None and display.pick_lines_ == {}
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["mean ξ", "threshold 0.4"]


def test_any_order_of_dampings_and_no_place_for_zero():
    dampings, xi = np.array([1.0, 0.0, 0.01, 0.1]), np.array([0.9, 0.1, 0.2, 0.5])
    display = LambdaPathDisplay(dampings, xi, threshold=None).plot(legend_loc=None)
    np.testing.assert_array_equal(display.line_.get_xdata(), [0.01, 0.1, 1.0])
    np.testing.assert_array_equal(display.line_.get_ydata(), [0.2, 0.5, 0.9])
    assert display.threshold_line_ is None and display.ax_.get_legend() is None


def test_lds_has_its_own_axis_and_dampings():
    coarse, lds, se = DAMPINGS[::4], np.array([0.1, 0.5, 0.7, 0.3, -0.1]), np.full(5, 0.05)
    display = LambdaPathDisplay(DAMPINGS, XI, lds=lds, lds_se=se, lds_dampings=coarse).plot()
    right = display.ax_lds_
    assert (
        right is not display.ax_ and right.get_ylabel() == "LDS (agreement with retrained models)"
    )
    np.testing.assert_array_equal(display.lds_line_.get_xdata(), coarse)
    np.testing.assert_array_equal(display.lds_line_.get_ydata(), lds)
    np.testing.assert_allclose(band(right)[coarse[2]], (0.65, 0.75))
    low, high = right.get_ylim()
    assert low < -0.15 and high > 0.75  # the whole band is inside
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["mean ξ (left)", "threshold 0.5", "LDS (right)"]
    shared = LambdaPathDisplay(DAMPINGS, XI, lds=XI / 2).plot()
    np.testing.assert_array_equal(shared.lds_line_.get_xdata(), DAMPINGS)


def test_curves_differ_without_color():
    display = LambdaPathDisplay(DAMPINGS, XI, lds=XI / 2).plot()
    for feature in ("get_color", "get_linestyle", "get_marker"):
        assert getattr(display.line_, feature)() != getattr(display.lds_line_, feature)()


def test_picks_are_marked_where_they_are():
    picks = {"LDSSearch": 2e-3, "default": 1e-5}
    display = LambdaPathDisplay(DAMPINGS, XI, best_damping=8e-3, picks=picks).plot()
    expected = {"ξ pick": 8e-3, **picks}
    assert {k: set(v.get_xdata()) for k, v in display.pick_lines_.items()} == {
        k: {v} for k, v in expected.items()
    }
    texts = [text.get_text().strip() for text in display.ax_picks_.get_xticklabels()]
    assert dict(zip(texts, display.ax_picks_.get_xticks(), strict=True)) == expected


@pytest.mark.parametrize("width", [3, 6, 9])
def test_labels_of_near_picks_do_not_overlap(width):
    figure, ax = plt.subplots(figsize=(width, 3))
    picks = {"first label": 1e-3, "second label": 1.5e-3, "third": 2e-3, "far": 10.0}
    display = LambdaPathDisplay.from_predictions(DAMPINGS, XI, picks=picks, ax=ax)
    figure.canvas.draw()
    labels = display.ax_picks_.get_xticklabels()
    # the lines that a lifted label leaves empty hold no ink: compare the first lines only
    boxes = []
    for label in labels:
        box, n_lines = label.get_window_extent(), label.get_text().count("\n") + 1
        boxes.append((box.x0, box.x1, box.y1 - box.height / n_lines, box.y1))
    for i, (a0, a1, a2, a3) in enumerate(boxes):
        for b0, b1, b2, b3 in boxes[:i]:
            assert a0 >= b1 or b0 >= a1 or a2 >= b3 - 2 or b2 >= a3 - 2
    assert labels[-1].get_text() == "far"  # no higher than it must be


def test_pick_outside_the_grid_is_in_the_picture():
    display = LambdaPathDisplay(DAMPINGS, XI, picks={"far": 1e5}).plot()
    assert display.ax_.get_xlim()[1] >= 1e5


def test_legend_avoids_the_curve():
    rising = LambdaPathDisplay(DAMPINGS, np.linspace(0, 1, 17)).plot()
    falling = LambdaPathDisplay(DAMPINGS, np.linspace(1, 0, 17)).plot()
    places = [display.ax_.get_legend()._loc for display in (rising, falling)]
    upper_left, upper_right, lower_left = 2, 1, 3
    assert places[0] == upper_left and places[1] in (upper_right, lower_left)


def test_given_axes_are_used():
    figure, (left, right) = plt.subplots(1, 2)
    display = LambdaPathDisplay(DAMPINGS, XI).plot(ax=right)
    assert display.ax_ is right and display.figure_ is figure and not left.lines


def test_dark_style_is_followed():
    with plt.style.context("dark_background"):
        display = LambdaPathDisplay(DAMPINGS, XI, best_damping=1e-2).plot()
    for line in (display.threshold_line_, display.pick_lines_["ξ pick"]):
        assert line.get_color() == "white"


class Search(BaseEstimator):
    """What the display reads of a fitted SurrogateLambdaSearchCV."""

    def __init__(self, threshold=0.37, criterion="xi"):
        self.threshold = threshold
        self.criterion = criterion

    def fit(self, X=None, y=None):
        self.best_params_ = {"damping": 1e-2}
        self.indicator_ = self.criterion
        self.cv_results_ = {"param_damping": DAMPINGS, "mean_xi": XI, "std_xi": 0.1 * XI}
        return self


def test_from_estimator_reads_a_search():
    display = LambdaPathDisplay.from_estimator(Search().fit(), lds=XI / 2, picks={"default": 1e-4})
    np.testing.assert_array_equal(display.line_.get_ydata(), XI)
    np.testing.assert_array_equal(display.std_xi, 0.1 * XI)
    assert set(display.threshold_line_.get_ydata()) == {0.37}
    assert {k: v.get_xdata()[0] for k, v in display.pick_lines_.items()} == {
        "ξ pick": 1e-2,
        "default": 1e-4,
    }
    np.testing.assert_array_equal(display.lds_line_.get_ydata(), XI / 2)


def test_a_pick_of_zero_has_no_place_on_the_axis():
    search = Search().fit()
    search.best_params_ = {"damping": 0.0}
    search.cv_results_["param_damping"] = np.r_[0.0, DAMPINGS[1:]]
    display = LambdaPathDisplay.from_estimator(search)
    np.testing.assert_array_equal(display.line_.get_xdata(), DAMPINGS[1:])
    assert display.pick_lines_ == {}


def test_other_searches_are_told_what_is_accepted():
    from influencekit import InfluenceFunction, LDSSearch

    with pytest.raises(TypeError, match="got LDSSearch; accepted is a fitted Surrogate"):
        LambdaPathDisplay.from_estimator(LDSSearch(InfluenceFunction()))


def test_from_estimator_reads_the_packages_own_search():
    from influencekit.attributors import InfluenceFunction
    from influencekit.selection import SurrogateLambdaSearchCV

    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    search = SurrogateLambdaSearchCV(InfluenceFunction("fisher"), criterion="xi", random_state=0)
    with pytest.warns(LambdaPathWarning, match="convex"):
        search.fit(model, X, y)
    display = LambdaPathDisplay.from_estimator(search)
    tried, xi = search.cv_results_["param_damping"], search.cv_results_["mean_xi"]
    assert tried[0] == 0  # has no place on a logarithmic axis
    np.testing.assert_allclose(display.line_.get_xdata(), tried[1:])
    np.testing.assert_allclose(display.line_.get_ydata(), xi[1:])
    assert display.pick_lines_["ξ pick"].get_xdata()[0] == search.best_params_["damping"]


def test_from_estimator_needs_a_fitted_search():
    with pytest.raises(NotFittedError):
        LambdaPathDisplay.from_estimator(Search())


def test_without_matplotlib_its_installation_is_told(monkeypatch):
    display = LambdaPathDisplay(DAMPINGS, XI)  # arrays alone need no matplotlib
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"LambdaPathDisplay.plot .*`pip install matplotlib`"):
        display.plot()
    with pytest.raises(ImportError, match=r"from_estimator .*`pip install matplotlib`"):
        LambdaPathDisplay.from_estimator(Search().fit())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean_xi": XI[1:]}, "`mean_xi` must be 1-d, not empty, and as long as `dampings`"),
        ({"std_xi": XI[:, None]}, "`std_xi` must be 1-d"),
        ({"lds": [0.1, 0.2]}, "`lds` must be 1-d.* as long as `dampings`"),
        ({"lds": [0.1], "lds_dampings": [1, 2]}, "`lds` must be .* as long as `lds_dampings`"),
        ({"lds": XI * np.nan}, "`lds` has no finite value"),
        ({"dampings": []}, "`dampings` must be 1-d, not empty"),
        ({"lds_se": XI}, "describe `lds`, which is None"),
        ({"dampings": -DAMPINGS}, "`dampings` must be finite dampings"),
        ({"dampings": 0 * DAMPINGS}, "`dampings` must be .* at least one of them positive"),
        ({"picks": {"none": 0.0}}, "`picks`: 'none' is 0.0"),
        ({"best_damping": np.nan}, "`picks`: 'ξ pick' is nan"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        LambdaPathDisplay(**{"dampings": DAMPINGS, "mean_xi": XI} | arguments)


def test_picks_on_one_place_share_a_label():
    picks = {"default": 1e-2, "LDSSearch": 1.001e-2}
    display = LambdaPathDisplay([1e-3, 1e-2, 1e-1], [0.2, 0.45, 0.9], picks=picks).plot()
    labels = [text.get_text().strip() for text in display.ax_picks_.get_xticklabels()]
    assert labels == ["default, LDSSearch"]
    assert set(display.pick_lines_) == {"default", "LDSSearch"}
