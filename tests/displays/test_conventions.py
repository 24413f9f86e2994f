"""What holds for every display: scikit-learn's conventions, and that every style can read it."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.lines import Line2D

import influencekit.displays
from tests.displays._cases import CASES

DISPLAYS = [getattr(influencekit.displays, name) for name in influencekit.displays.__all__]
STYLES = ["default", "dark_background"]


def parameters(function):
    return inspect.signature(function).parameters


def makers(display):
    return {n: getattr(display, n) for n in dir(display) if n.startswith("from_")}


def test_every_display_is_drawn_here():
    assert {name.split(",")[0] for name in CASES} == set(influencekit.displays.__all__)


@pytest.mark.parametrize("display", DISPLAYS)
def test_signatures(display):
    assert display.__name__.endswith("Display")
    name, ax = list(parameters(display.plot).items())[1]
    assert name == "ax" and ax.default is None
    assert makers(display)
    for name, make in makers(display).items():
        assert inspect.ismethod(make), f"{name} is no classmethod"
        ax = parameters(make)["ax"]
        assert ax.default is None and ax.kind is ax.KEYWORD_ONLY
    assert "figure_" in display.__doc__ and "ax_" in display.__doc__


@pytest.mark.parametrize("name", CASES)
def test_own_figure_given_axes_and_drawn_again(name):
    display = CASES[name]()
    assert display.figure_ is np.ravel(display.ax_)[0].figure
    for parameter in parameters(type(display)):
        assert hasattr(display, parameter), f"the constructor does not keep {parameter}"
    figure, ax = plt.subplots()
    given = CASES[name](ax=ax)
    assert given.ax_ is ax and given.figure_ is figure
    assert display.plot() is display and display.figure_ is not figure
    assert not [key for key in vars(type(display)) if key in ("figure_", "ax_")]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", CASES)
def test_nothing_vanishes(name, style):
    """Contrast as WCAG defines it: 3 for text, 2 for curves, bars and points."""
    with plt.style.context(style):
        figure = CASES[name]().figure_
        for ax in figure.axes:
            for text, back in texts(ax):
                assert contrast(text.get_color(), back) > 3, text
            for artist, colors in shapes(ax):
                assert max(contrast(color, ground(ax)) for color in colors) > 2, artist


def ground(ax):
    """Color of the axes, or of the figure where axes are not drawn."""
    return to_rgb(ax.get_facecolor() if ax.axison else ax.figure.get_facecolor())


def texts(ax):
    """Texts with the color behind them: of a heat map's cell, of axes, figure or legend."""
    around, legend = to_rgb(ax.figure.get_facecolor()), ax.get_legend()
    for text in ax.texts:
        if ax.images and text.get_transform() == ax.transData:
            image, (x, y) = ax.images[0], text.get_position()
            yield text, image.cmap(image.norm(image.get_array()[int(y), int(x)]))[:3]
        else:
            yield text, ground(ax)
    for text in [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels()]:
        yield text, around
    for text in legend.get_texts() if legend else []:
        yield text, to_rgb(legend.get_frame().get_facecolor())


def shapes(ax):
    """Lines, bars and points with their colors; bands stand behind curves, outlines have both."""
    for line in ax.lines:
        yield line, [to_rgba(line.get_color(), line.get_alpha())]
    for patch in ax.patches:
        if not patch.get_path_effects():
            yield patch, [patch.get_facecolor(), patch.get_edgecolor()]
    for points in ax.collections:
        if isinstance(points, PathCollection):
            yield points, [points.get_edgecolor()[0]]


@pytest.mark.parametrize("name", CASES)
def test_curves_differ_without_color(name):
    figure = CASES[name]().figure_
    looks = []
    for ax in figure.axes:
        handles, _ = ax.get_legend_handles_labels()
        lines = [getattr(handle, "lines", [handle])[0] for handle in handles]
        lines = [line for line in lines if isinstance(line, Line2D)]
        looks += [(line.get_linestyle(), line.get_marker()) for line in lines]
    assert len(set(looks)) == len(looks)


def contrast(color, back):
    red, green, blue, alpha = to_rgba(color)
    seen = alpha * np.array([red, green, blue]) + (1 - alpha) * np.array(back)
    light = sorted(luminance(c) + 0.05 for c in (seen, back))
    return light[1] / light[0]


def luminance(rgb):
    rgb = np.asarray(rgb)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
