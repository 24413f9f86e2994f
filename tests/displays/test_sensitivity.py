"""What the pictures of a sensitivity study show, read back from their artists."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from influencekit import TRAK, SensitivityStudy, retrain_on_subsets
from influencekit.displays import SensitivityDisplay
from influencekit.displays.sensitivity._sensitivity_data import label_of

AXIS = "LDS (agreement with retrained models)"
DAMPINGS = [1e-3, 1e-2, 1e-1]
DIMS = [64, 256, None]
#: LDS of "IF" by damping (rows) and projection_dim.
LDS = np.array([[0.3, 0.2, 0.1], [0.4, 0.5, 0.45], [0.35, 0.48, np.nan]])


def table():
    """Two attributors: IF over damping x projection_dim with "auto", TRAK over damping alone."""
    rows = []
    for i, damping in enumerate(DAMPINGS):
        for j, dim in enumerate(DIMS):
            rows.append(["IF", damping, dim, np.nan, LDS[i, j], 0.02, damping])
    auto, trak = zip(DIMS, (0.31, 0.32, 0.33), strict=True), {0.1: 0.1, 0.01: 0.6, 0.001: 0.2}
    rows += [["IF", "auto", dim, np.nan, lds, 0.02, 3e-3] for dim, lds in auto]
    rows += [["TRAK", damping, np.nan, 4, lds, 0.01, damping] for damping, lds in trak.items()]
    rows += [["TRAK", 1e-2, np.nan, 9, 0.9, 0.01, 1e-2]]  # of a grid over another axis
    columns = ["attributor", "damping", "projection_dim", "size", "lds", "lds_se", "damping_"]
    frame = pd.DataFrame(rows, columns=columns).astype({"damping": object})
    dims = pd.Series([None] * len(frame), dtype=object)
    for k, row in enumerate(rows):
        dims.iat[k] = row[2]
    return frame.assign(projection_dim=dims)


DEFAULTS = {"IF": {"damping": "auto", "projection_dim": None}, "TRAK": {"damping": 0.1, "size": 4}}


def band(collection):
    """Lower and upper edge of a filled band at each of its x values."""
    found = {}
    for x, y in collection.get_paths()[0].vertices:
        found.setdefault(x, []).append(y)
    return {x: (min(ys), max(ys)) for x, ys in found.items()}


def test_curves_take_the_best_over_what_is_not_drawn():
    display = SensitivityDisplay(table(), "damping", defaults=DEFAULTS, noise_ceiling=0.8)
    assert display.plot() is display
    assert list(display.lines_) == ["IF", "TRAK"]
    line = display.lines_["IF"]
    np.testing.assert_array_equal(line.get_xdata(), DAMPINGS)
    np.testing.assert_array_equal(line.get_ydata(), np.nanmax(LDS, axis=1))
    np.testing.assert_array_equal(display.lines_["TRAK"].get_ydata(), [0.2, 0.6, 0.1])
    edges = band(display.bands_["IF"])
    for x, y in zip(DAMPINGS, np.nanmax(LDS, axis=1), strict=True):
        np.testing.assert_allclose(edges[x], (y - 0.02, y + 0.02))
    assert display.ax_.get_xscale() == "log" and display.ax_.figure is display.figure_
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("damping λ", AXIS)
    assert display.best_marks_["IF"].get_xydata().tolist() == [[1e-2, 0.5]]
    assert display.default_marks_["IF"].get_xydata().tolist() == [[3e-3, 0.33]]
    assert display.default_marks_["TRAK"].get_xydata().tolist() == [[0.1, 0.1]]
    assert set(display.ceiling_line_.get_ydata()) == {0.8}
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["IF", "TRAK", "best", "default", "attainable"]
    styles = {(line.get_color(), line.get_marker()) for line in display.lines_.values()}
    assert len(styles) == 2


def test_others_stay_where_the_best_cell_has_them():
    display = SensitivityDisplay(table(), "projection_dim", others="best").plot()
    np.testing.assert_array_equal(display.lines_["IF"].get_ydata(), LDS[1])
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["64", "256", "none"]
    np.testing.assert_array_equal(display.lines_["IF"].get_xdata(), [0, 1, 2])
    assert display.default_marks_ == {}
    display = SensitivityDisplay(table(), "projection_dim", others={"damping": 1e-3}).plot()
    np.testing.assert_array_equal(display.lines_["IF"].get_ydata(), LDS[0])
    assert list(display.lines_) == ["IF"]  # the axis does not apply to TRAK


def test_hue_draws_a_curve_for_each_value_and_gaps_where_cells_failed():
    display = SensitivityDisplay(table(), "damping", hue="projection_dim", attributors=["IF"])
    display.plot()
    labels = [f"projection_dim = {dim}" for dim in (64, 256, "none")]
    assert list(display.lines_) == labels
    for label, column in zip(labels, LDS.T, strict=True):
        np.testing.assert_array_equal(display.lines_[label].get_ydata(), column)
    assert display.best_marks_[labels[2]].get_xydata().tolist() == [[1e-2, 0.45]]
    assert len({line.get_color() for line in display.lines_.values()}) == 3


def test_long_legends_stand_beside_the_axes():
    options = {"hue": "projection_dim", "defaults": DEFAULTS, "noise_ceiling": 0.9}
    display = SensitivityDisplay(table(), "damping", **options).plot()
    display.figure_.canvas.draw()
    axes = display.ax_.get_window_extent()
    assert display.ax_.get_legend().get_window_extent().x0 >= axes.x1
    assert display.ax_.get_legend().get_window_extent().x1 <= display.figure_.bbox.x1 + 1
    assert display.plot(legend_loc=None).ax_.get_legend() is None
    inside = display.plot(legend_loc="lower left").ax_.get_legend()
    display.figure_.canvas.draw()
    assert inside.get_window_extent().x1 < display.ax_.get_window_extent().x1


def test_heat_map_shows_numbers_and_outlines_the_best():
    results = table()[lambda t: t["damping"] != "auto"]
    display = SensitivityDisplay(results, "projection_dim", y="damping").plot()
    shown = display.images_["IF"].get_array()
    np.testing.assert_array_equal(shown.mask, np.isnan(LDS))
    np.testing.assert_array_equal(shown.filled(0), np.nan_to_num(LDS))
    ax = display.ax_
    assert [t.get_text() for t in ax.get_xticklabels()] == ["64", "256", "none"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1e-3", "0.01", "0.1"]
    texts = {t.get_position(): t.get_text() for t in ax.texts}
    assert texts[1, 1] == ".50" and texts[0, 0] == ".30" and texts[2, 2] == "–"
    assert len(texts) == 9
    assert display.outlines_["IF"].get_xy() == (0.5, 0.5)
    assert display.images_["IF"].get_clim() == (0.1, 0.5)
    assert display.images_["IF"].get_cmap().name == "viridis"
    assert display.colorbar_.ax.get_ylabel() == AXIS
    colors = {t.get_position(): t.get_color() for t in ax.texts}
    assert (colors[1, 1], colors[2, 0]) == ("black", "white")  # bright, dark


def test_heat_maps_of_several_attributors_share_a_scale():
    results = table()
    twin = results[results["attributor"] == "IF"].assign(attributor="other")
    twin["lds"] = twin["lds"] + 0.4
    both = pd.concat([results, twin], ignore_index=True)
    display = SensitivityDisplay(both, "damping", y="projection_dim").plot()
    assert [ax.get_title() for ax in display.ax_] == ["IF", "other"]
    assert {im.get_clim() for im in display.images_.values()} == {(0.1, 0.9)}
    _, axes = plt.subplots(1, 2)
    assert list(display.plot(ax=axes).ax_) == list(axes)
    with pytest.raises(ValueError, match="ax: got 1 axes for 2 heat maps"):
        display.plot(ax=axes[0])


def test_given_axes_are_drawn_on():
    figure, ax = plt.subplots()
    display = SensitivityDisplay(table(), "damping").plot(ax=ax)
    assert display.ax_ is ax and display.figure_ is figure and len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1, 2, 3], "linear"), ([1, 5, 100], "log"), ([0, 1, 50], "symlog"), ([1, "final"], "linear")],
)
def test_scales(values, scale):
    frame = pd.DataFrame({"attributor": "a", "epoch": pd.Series(values, dtype=object)})
    frame = frame.assign(lds=np.linspace(0.1, 0.3, len(values)), lds_se=0.01)
    display = SensitivityDisplay(frame, "epoch").plot()
    assert display.ax_.get_xscale() == scale
    place = range(len(values)) if "final" in values else values
    np.testing.assert_array_equal(display.lines_["a"].get_xdata(), list(place))


def test_a_damping_of_zero_is_left_out_of_curves():
    frame = pd.DataFrame({"attributor": "a", "damping": [0.0, 0.1, 1.0], "lds": [0.9, 0.2, 0.3]})
    display = SensitivityDisplay(frame.assign(lds_se=0.01), "damping").plot()
    np.testing.assert_array_equal(display.lines_["a"].get_xdata(), [0.1, 1.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (64, "64"),
        (64.0, "64"),
        (None, "none"),
        (1e-4, "1e-4"),
        (3.2e-5, "3.2e-5"),
        (0.5, "0.5"),
        (0, "0"),
        ((1, "final"), "1, final"),
        ("auto", "auto"),
        (True, "True"),
    ],
)
def test_labels(value, text):
    assert label_of(value) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": "nothing"}, r"the column \['nothing'\] is missing"),
        ({"x": "lds"}, "'lds', which is a result"),
        ({"y": "projection_dim", "hue": "size"}, "hue: heat maps"),
        ({"hue": "damping"}, "different hyperparameters"),
        ({"attributors": ["SVM"]}, r"\['SVM'\] are not in the results"),
        (
            {"attributors": ["TRAK"], "hue": "projection_dim"},
            "no attributor has cells with an LDS that differ",
        ),
        ({"others": "mean"}, "others: got 'mean'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SensitivityDisplay(table(), **{"x": "damping"} | arguments).plot()


def test_from_study():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    data = X[::2], y[::2], X[1::10], y[1::10]
    truth = retrain_on_subsets(model, *data, n_subsets=8, n_repeats=1, random_state=0)
    grid = {"damping": ["auto", 1e-3, 1e-1], "projection_dim": [None, 4]}
    study = SensitivityStudy((TRAK(), grid), random_state=0)
    with pytest.raises(NotFittedError):
        SensitivityDisplay.from_study(study, "damping")
    study.fit(model, *data, subset_outputs=truth)
    display = SensitivityDisplay.from_study(study, "damping", others={"projection_dim": None})
    rows = study.results_[[dim is None for dim in study.results_["projection_dim"]]]
    np.testing.assert_array_equal(display.lines_["TRAK"].get_ydata(), rows["lds"][1:])
    mark = display.default_marks_["TRAK"].get_xydata().tolist()
    assert mark == [[rows["damping_"].iloc[0], rows["lds"].iloc[0]]]
    heat = SensitivityDisplay.from_study(study, "damping", y="projection_dim")
    assert heat.images_["TRAK"].get_array().shape == (2, 3)


def test_without_matplotlib_its_installation_is_told(monkeypatch):
    display = SensitivityDisplay(table(), "damping")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"SensitivityDisplay.plot .*`pip install matplotlib`"):
        display.plot()


def test_marks_have_the_color_of_their_curve():
    display = SensitivityDisplay(table(), "damping", defaults=DEFAULTS).plot()
    for label, line in display.lines_.items():
        color = to_rgba(line.get_color())
        assert to_rgba(display.best_marks_[label].get_markerfacecolor()) == color
        assert to_rgba(display.default_marks_[label].get_markeredgecolor()) == color
