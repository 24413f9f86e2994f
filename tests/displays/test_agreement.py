"""AgreementDisplay draws the numbers it was given."""

from itertools import pairwise

import numpy as np
import pytest

from influencekit.displays import AgreementDisplay
from influencekit.metrics import agreement_by_seeds, attribution_agreement


def results(halves=True):
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(3, 6, 9))
    noisy = gold + 0.3 * rng.normal(size=(2, 3, 6, 9))
    both = noisy if halves else None
    methods = {"right": gold, "other": rng.normal(size=(6, 9))}
    return {
        name: attribution_agreement(noisy.mean(0), s, halves=both, horizons=[1, 5, 20])
        for name, s in methods.items()
    }


@pytest.mark.parametrize("measure", ["cosine", "spearman"])
def test_curves_errors_and_ceiling(measure):
    found = results()
    display = AgreementDisplay.from_results(found, measure=measure)
    assert list(display.lines_) == ["right", "other"]
    for name, result in found.items():
        np.testing.assert_array_equal(display.lines_[name].get_xdata(), [1, 5, 20])
        np.testing.assert_array_equal(display.lines_[name].get_ydata(), getattr(result, measure))
    ceiling = getattr(found["right"], f"{measure}_ceiling")
    np.testing.assert_array_equal(display.ceiling_line_.get_ydata(), ceiling)
    band = display.band_.get_paths()[0].vertices[:, 1]
    assert band.max() == 1 and np.isclose(band.min(), ceiling.min())
    assert display.ax_.get_xscale() == "log" and "epochs" in display.ax_.get_xlabel()
    low, _ = display.ax_.get_ylim()
    assert low <= min(getattr(r, measure).min() for r in found.values())


def test_no_ceiling_without_halves():
    display = AgreementDisplay.from_results(results(halves=False), unit="steps")
    assert display.ceiling_line_ is None and display.band_ is None


def test_number_of_seeds():
    rng = np.random.default_rng(1)
    seeds = rng.normal(size=(4, 2, 5, 9))
    curve = agreement_by_seeds(seeds, {"a": seeds.mean(0)}, n_repeats=[1, 2, 4])
    display = AgreementDisplay.from_seed_curve(curve)
    np.testing.assert_array_equal(display.lines_["a"].get_xdata(), [1, 2, 4])
    np.testing.assert_array_equal(display.lines_["a"].get_ydata(), curve.best()["a"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AgreementDisplay([2, 1], {"a": [0, 0]}), "positive and ascending"),
        (lambda: AgreementDisplay([0, 1], {"a": [0, 0]}), "positive and ascending"),
        (lambda: AgreementDisplay([1, 2], {}), "`curves` is empty"),
        (lambda: AgreementDisplay([1, 2], {"a": [0]}), "has shape"),
        (lambda: AgreementDisplay([1, 2], {"a": [0, 0]}, ceiling=[1]), "`ceiling` has shape"),
        (lambda: AgreementDisplay.from_results({}), "`results` is empty"),
        (lambda: AgreementDisplay.from_results(results(), measure="lds"), "measure: got 'lds'"),
    ],
)
def test_wrong_arguments_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("x", [np.arange(1, 41), [1, 2, 5, 100], [3], [1, 2]])
def test_labels_of_many_horizons_do_not_touch(x):
    display = AgreementDisplay(x, {"a": np.linspace(0.9, 0.1, len(x))}).plot()
    display.figure_.canvas.draw()
    boxes = [label.get_window_extent() for label in display.ax_.get_xticklabels()]
    assert {x[0], x[-1]} <= set(display.ax_.get_xticks())
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
