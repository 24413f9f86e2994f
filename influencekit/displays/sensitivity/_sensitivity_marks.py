"""Places, colours and marks of the curves of a sensitivity study."""

from __future__ import annotations

from numbers import Real
from typing import Any

from influencekit.displays._style import PALETTE, is_dark, neutral_colour
from influencekit.displays.sensitivity._heat_map import COLOURS
from influencekit.displays.sensitivity._sensitivity_data import label_of

__all__ = ["add_mark", "place_of", "scale_of", "shade_of"]


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
