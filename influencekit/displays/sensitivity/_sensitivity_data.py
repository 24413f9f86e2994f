"""Curves and grids from the table of a sensitivity study, and their marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influencekit.displays._style import PALETTE, is_dark, literal, neutral_color
from influencekit.utils._suggest import did_you_mean

__all__ = [
    "Curve",
    "add_mark",
    "axis_values",
    "check_table",
    "complete",
    "default_of",
    "draw_heat_map",
    "find_axes",
    "fixed_values",
    "grid_of",
    "label_of",
    "make_curve",
    "place_of",
    "scale_of",
    "select",
    "shade_of",
]


#: Columns of the table that are not hyperparameters.
NEEDED = ("attributor", "lds", "lds_se")
FACTS = (*NEEDED, "n_undefined", "damping_", "xi", "default", "seconds", "error")


@dataclass
class Curve:
    """LDS along one axis.

    Attributes
    ----------
    values : list
        Values of the axis.
    lds, lds_se : ndarray of shape (n_values,)
    default : tuple of (float or value, float) or None
        Position and LDS at the attributor's own value.
    """

    values: list
    lds: NDArray
    lds_se: NDArray
    default: tuple[Any, float] | None = None


def check_table(table: Any, axes: list[str]) -> None:
    """Refuse a table without the columns that are drawn.

    Raises
    ------
    ValueError
    """
    missing = [name for name in (*NEEDED, *axes) if name not in table.columns]
    if missing:
        raise ValueError(
            f"results: the column {missing} is missing; accepted is the results_ of a "
            f"SensitivityStudy. "
            f"Its axes are {[c for c in table.columns if c not in FACTS]}."
            f"{did_you_mean(missing[0], table.columns)}"
        )
    facts = [name for name in axes if name in FACTS]
    if facts:
        raise ValueError(f"x, y, hue: got {facts[0]!r}, which is a result, not a hyperparameter.")
    if len(set(axes)) < len(axes):
        raise ValueError(f"x, y, hue: got {axes}; accepted are different hyperparameters.")


def find_axes(rows: Any) -> list[str]:
    """Hyperparameters that apply to an attributor's rows, and vary in them."""
    return [
        column
        for column in rows.columns
        if column not in FACTS and rows[column].notna().any() and len(axis_values(rows[column])) > 1
    ]


def _key(value: Any) -> Any:
    """A key that is the same for equal values, whatever types pandas gave them."""
    if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)):
        return None if value != value else float(value)
    return value if value is None or isinstance(value, str) else repr(value)


def axis_values(column: Any) -> list:
    """Distinct values of a column: numbers ascending, then others in order of appearance."""
    found = {_key(value): value for value in reversed(list(column))}
    numbers = sorted(key for key in found if isinstance(key, float))
    seen = dict.fromkeys(_key(value) for value in column)
    return numbers + [None if k is None else found[k] for k in seen if not isinstance(k, float)]


def label_of(value: Any) -> str:
    """A short text for one value of a hyperparameter."""
    if value is None:
        return "none"
    if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)):
        number = float(value)
        if number == int(number) and 1 <= abs(number) < 1e6:
            return str(int(number))
        text = f"{number:.2g}" if abs(number) >= 0.01 or number == 0 else f"{number:.1e}"
        return text.replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e+")
    if isinstance(value, tuple):
        return ", ".join(label_of(item) for item in value)
    return str(value)


def select(rows: Any, chosen: Mapping[str, Any]) -> Any:
    """Rows that have the given values."""
    for column, value in chosen.items():
        rows = rows[[_key(own) == _key(value) for own in rows[column]]]
    return rows


def complete(rows: Any, drawn: list[str]) -> Any:
    """Rows whose other hyperparameters occur with the most values of those drawn.

    A study may have several grids for one attributor; with cells of a grid that varies something
    else, tuned cells would be compared with untuned ones.
    """
    others = [axis for axis in find_axes(rows) if axis not in drawn]
    if not others:
        return rows
    keys = [tuple(_key(value) for value in row) for row in rows[others].itertuples(index=False)]
    counts = {key: keys.count(key) for key in keys}
    return rows[[counts[key] == max(counts.values()) for key in keys]]


def fixed_values(rows: Any, others: Any, free: list[str]) -> dict[str, Any]:
    """Values at which axes that are not drawn are fixed; empty if they are tuned."""
    axes = [axis for axis in find_axes(rows) if axis not in free]
    if others == "tuned" or rows["lds"].isna().all():
        return {}
    if others == "best":
        best = rows.loc[rows["lds"].idxmax()]
        return {axis: best[axis] for axis in axes}
    if isinstance(others, Mapping):
        return {axis: value for axis, value in others.items() if axis in axes}
    raise ValueError(
        f"others: got {others!r}; accepted are 'tuned' (the best over them at each point), 'best' "
        "(at their values in the best cell) or a dict from hyperparameter to value."
        f"{did_you_mean(others, ['tuned', 'best'])}"
    )


def top_row(rows: Any) -> Any:
    """Row with the highest LDS, None if all failed."""
    return None if rows["lds"].isna().all() else rows.loc[rows["lds"].idxmax()]


def make_curve(rows: Any, x: str, default: Any) -> Curve:
    """Best row at each value of x.

    Parameters
    ----------
    rows : DataFrame
        Of one curve.
    x : str
    default : object
        The attributor's own value of x; a value that is not in the rows is not marked.

    Returns
    -------
    Curve
        The curve; NaN at values whose cells all failed.
    """
    values = [v for v in axis_values(rows[x]) if not (x == "damping" and isinstance(v, str))]
    if x == "damping":
        values = [value for value in values if value > 0]  # 0 cannot be drawn on a log axis
    tops = [top_row(select(rows, {x: value})) for value in values]
    lds = np.array([np.nan if row is None else row["lds"] for row in tops], dtype=np.float64)
    error = np.array([np.nan if row is None else row["lds_se"] for row in tops], dtype=np.float64)
    own = top_row(select(rows, {x: default})) if default is not _ABSENT else None
    mark = None
    if own is not None:
        place = own["damping_"] if x == "damping" and isinstance(own[x], str) else own[x]
        if x != "damping" or place > 0:
            mark = place, float(own["lds"])
    return Curve(values, lds, error, mark)


_ABSENT = object()


def default_of(defaults: Mapping[str, Mapping[str, Any]] | None, name: str, axis: str) -> Any:
    """An attributor's own value of an axis, or a marker that it is not known."""
    return (defaults or {}).get(name, {}).get(axis, _ABSENT)


def grid_of(rows: Any, x: str, y: str) -> tuple[list, list, NDArray]:
    """Values of x, values of y, and the best LDS of each pair (n_y, n_x)."""
    columns, lines = axis_values(rows[x]), axis_values(rows[y])
    table = np.full((len(lines), len(columns)), np.nan)
    for i, low in enumerate(lines):
        for j, value in enumerate(columns):
            row = top_row(select(rows, {x: value, y: low}))
            if row is not None:
                table[i, j] = row["lds"]
    return columns, lines, table


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
    """Position of a value on the horizontal axis."""
    if scale != "categories":
        return float(value)
    labels = [label_of(v) for v in values]
    return float(labels.index(label_of(value)))


def add_mark(
    ax: Any, x: float, y: float, style: dict[str, Any], *, hollow: bool = False, **marker: Any
) -> Any:
    """One larger marker on a curve."""
    face = "none" if hollow else style["color"]
    edge = style["color"] if hollow else neutral_color()
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


def shade_of(k: int, values: list) -> Any:
    """Color of one of several values: along viridis if they are ordered."""
    numbers = sum(isinstance(v, Real) for v in values)
    if numbers < 2:
        return PALETTE[k % len(PALETTE)]
    import matplotlib as mpl

    low, high = (0.35, 1.0) if is_dark() else (0.0, 0.75)  # the other end is like the background
    return mpl.colormaps[COLORS](low + (high - low) * k / (len(values) - 1))


#: Color map that works by brightness alone, and for color-blind readers.
COLORS = "viridis"


def draw_heat_map(
    ax: Any, columns: list, lines: list, table: NDArray, limits: tuple[float, float]
) -> Any:
    """Draw a table (n_lines, n_columns).

    Parameters
    ----------
    ax : matplotlib Axes
    columns, lines : list
        Values of the two hyperparameters.
    table : ndarray
        LDS values; NaN if every cell failed.
    limits : tuple of float
        Ends of the color scale.

    Returns
    -------
    image : matplotlib AxesImage
    texts : list of matplotlib Text
    outline : matplotlib Rectangle
        Frame around the best cell.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    image = ax.imshow(
        np.ma.masked_invalid(table),
        cmap=COLORS,
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


def _write(ax: Any, image: Any, i: int, j: int, value: float) -> Any:
    """Text of a cell, dark on bright and bright on dark."""
    if np.isnan(value):
        return ax.text(j, i, "–", ha="center", va="center", fontsize=8)
    red, green, blue, _ = image.cmap(image.norm(value))
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
    text = f"{value:.2f}".replace("0.", ".", 1)
    color = "black" if bright else "white"
    return ax.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
