"""ErrorProxyDisplay shows what the numbers say."""

import numpy as np
import pytest

from influencekit.displays import ErrorProxyDisplay
from influencekit.training.trajectory._error_proxy import ErrorProxy

pytest.importorskip("matplotlib")

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(4, 30))
SECOND = SCORES * RNG.uniform(0.02, 0.45, size=30)
PROXY = ErrorProxy(np.arange(30), SCORES, SECOND)
MEASURED = SCORES + 0.8 * SECOND


def offsets(points):
    return np.asarray(points.get_offsets())


def test_proxy_against_true_error():
    display = ErrorProxyDisplay.from_predictions(PROXY, MEASURED, threshold=0.2)
    ratio = np.linalg.norm(SECOND, axis=0) / np.linalg.norm(SCORES, axis=0)
    error = np.linalg.norm(MEASURED - SCORES, axis=0) / np.linalg.norm(MEASURED, axis=0)
    flagged = ratio > 0.2
    assert 0 < flagged.sum() < 30
    np.testing.assert_array_equal(display.trusted_, ~flagged)
    table = np.stack([ratio, error], axis=1)
    np.testing.assert_allclose(offsets(display.trusted_points_), table[~flagged])
    np.testing.assert_allclose(offsets(display.flagged_points_), table[flagged])
    assert list(display.threshold_line_.get_xdata()) == [0.2, 0.2]
    labels = [t.get_text() for t in display.ax_.get_legend().get_texts()]
    assert labels == [f"trusted ({(~flagged).sum()})", f"flagged ({flagged.sum()})"]
    assert display.ax_.get_ylabel() == "relative true error"
    display.figure_.canvas.draw()


def test_a_run_that_is_not_reliable_is_flagged_as_a_whole():
    display = ErrorProxyDisplay(ErrorProxy(np.arange(30), SCORES, 3 * SECOND)).plot()
    assert not display.trusted_.any() and len(offsets(display.flagged_points_)) == 30


def test_without_measured_scores_and_on_given_axes():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = ErrorProxyDisplay(PROXY).plot(ax=ax, legend_loc=None)
    assert display.ax_ is ax and ax.get_legend() is None
    np.testing.assert_allclose(display.y_, np.linalg.norm(SCORES, axis=0))
    assert ax.get_ylabel() == "norm of the scores"


def test_rows_without_a_place_are_left_out_but_counted():
    scores, second = SCORES.copy(), SECOND.copy()
    scores[:, 3] = 0  # infinite ratio: flagged
    second[:, 5] = 0  # ratio 0: trusted
    display = ErrorProxyDisplay.from_predictions(ErrorProxy(np.arange(30), scores, second))
    assert not display.trusted_[3] and display.trusted_[5]
    shown = len(offsets(display.trusted_points_)) + len(offsets(display.flagged_points_))
    assert shown == 28
    display.figure_.canvas.draw()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"measured: got shape \(30, 4\)"):
        ErrorProxyDisplay.from_predictions(PROXY, MEASURED.T)
    with pytest.raises(ValueError, match="finite"):
        ErrorProxyDisplay.from_predictions(PROXY, np.full((4, 30), np.nan))
    with pytest.raises(ValueError, match="threshold"):
        ErrorProxyDisplay(PROXY).plot(threshold=0)
