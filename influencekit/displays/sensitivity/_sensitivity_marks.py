"""Places, colours and marks of the curves of a sensitivity study."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influencekit.displays._style import PALETTE, is_dark, literal, neutral_colour
from influencekit.displays.sensitivity._sensitivity_data import label_of

__all__ = ["add_mark", "draw_heat_map", "place_of", "scale_of", "shade_of"]


def scale_of(values: list, x: str) -> str:
    """Kind of the horizontal axis."""
    if not all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        return "categories"
    low, high = min(values), max(values)
    if x == "damping":
        return "log"
    if low < 0 or high < 20 * max(low, min((v for v in values if v > 0), default=1)):
        return "linear"
    return "log" if low > 0 else "symlog"


def place_of(value: Any, values: list, scale: str) -> float:
    """Where a value lies on the horizontal axis."""
    if scale != "categories":
        return float(value)
    labels = [label_of(v) for v in values]
    return float(labels.index(label_of(value)))


def add_mark(ax, x: float, y: float, style: dict[str, Any], *, hollow: bool = False, **marker):
    """One larger marker on a curve."""
    face = "none" if hollow else style["color"]
    edge = style["color"] if hollow else neutral_colour()
    (line,) = ax.plot(
        [x],
        [y],
        linestyle="none",
        markerfacecolor=face,
        markeredgecolor=edge,
        markeredgewidth=1.8 if hollow else 0.7,
        zorder=5,
        **marker,
    )
    return line


def shade_of(k: int, values: list):
    """Colour of one of several values: along viridis where they are ordered."""
    numbers = sum(isinstance(v, Real) for v in values)
    if numbers < 2:
        return PALETTE[k % len(PALETTE)]
    import matplotlib as mpl

    low, high = (0.35, 1.0) if is_dark() else (0.0, 0.75)  # the other end is the background's
    return mpl.colormaps[COLOURS](low + (high - low) * k / (len(values) - 1))


#: Colour map that is told apart by brightness alone, and by colour-blind readers.
COLOURS = "viridis"


def draw_heat_map(ax, columns: list, lines: list, table: NDArray, limits: tuple[float, float]):
    """Draw a table (n_lines, n_columns).

    Parameters
    ----------
    ax : matplotlib Axes
    columns, lines : list
        Values of the two hyperparameters.
    table : ndarray
        NaN where every cell failed.
    limits : tuple of float
        Ends of the colour scale.

    Returns
    -------
    image : matplotlib AxesImage
    texts : list of matplotlib Text
    outline : matplotlib Rectangle
        Around the best cell.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    image = ax.imshow(
        np.ma.masked_invalid(table),
        cmap=COLOURS,
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        origin="lower",
    )
    ax.set_xticks(range(len(columns)), [literal(label_of(v)) for v in columns])
    ax.set_yticks(range(len(lines)), [literal(label_of(v)) for v in lines])
    ax.tick_params(length=0)
    if sum(len(label_of(v)) + 1 for v in columns) > 45:
        ax.tick_params(axis="x", labelrotation=60)
    texts = [
        _write(ax, image, i, j, table[i, j]) for i in range(len(lines)) for j in range(len(columns))
    ]
    i, j = np.unravel_index(np.nanargmax(table), table.shape)
    outline = Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=1.5)
    outline.set(clip_on=False, path_effects=[withStroke(linewidth=4.5, foreground="black")])
    ax.add_patch(outline)
    texts[i * len(columns) + j].set_fontweight("bold")
    return image, texts, outline


def _write(ax, image, i: int, j: int, value: float):
    """Number of a cell, dark on bright and bright on dark."""
    if np.isnan(value):
        return ax.text(j, i, "–", ha="center", va="center", fontsize=8)
    red, green, blue, _ = image.cmap(image.norm(value))
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
    text = f"{value:.2f}".replace("0.", ".", 1)
    colour = "black" if bright else "white"
    return ax.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
