"""One heat map: cells with their numbers, the best one outlined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from influencekit.displays._text import literal
from influencekit.displays.sensitivity._sensitivity_data import label_of

__all__ = ["COLOURS", "draw_heat_map"]

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
