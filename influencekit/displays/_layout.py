"""Curves in order, labels that do not touch, and a free corner for the legend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["curve", "emptiest_corner", "label_levels", "merge_close"]


def curve(x, y, error, names: tuple[str, str, str]) -> tuple[NDArray, NDArray, NDArray | None]:
    """Curve sorted by x, as float arrays of one length, without the points at x = 0."""
    x = _float_array(x, names[0], names[0], None)
    y = _float_array(y, names[1], names[0], x.shape)
    error = None if error is None else _float_array(error, names[2], names[0], x.shape)
    if not np.isfinite(x).all() or not (x >= 0).all() or not (x > 0).any():
        raise ValueError(
            f"`{names[0]}` must be finite dampings of 0 or more, at least one of them positive: "
            f"the axis is logarithmic. Got values from {x.min()} to {x.max()}."
        )
    order = np.argsort(x, kind="stable")
    order = order[x[order] > 0]
    return x[order], y[order], None if error is None else error[order]


def _float_array(values, name: str, x_name: str, shape: tuple[int, ...] | None) -> NDArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or shape not in (None, array.shape):
        raise ValueError(
            f"`{name}` must be 1-d, not empty, and as long as `{x_name}`; got shape "
            f"{array.shape}" + ("." if shape is None else f" beside {shape}.")
        )
    return array


def label_levels(positions: NDArray, labels: list[str], ax) -> list[int]:
    """Height, in lines, at which each label clears those to its left."""
    low, high = np.log10(ax.get_xlim())
    inches = ax.get_window_extent().width / ax.figure.dpi
    letter = 0.095 * (high - low) / inches  # width of a letter of 10 points, in decades
    ends: list[float] = []
    levels = []
    for position, label in zip(positions, labels, strict=True):
        half = (len(label) / 2 + 0.5) * letter
        level = next((i for i, end in enumerate(ends) if position - half > end), len(ends))
        ends[level:] = [position + half, *ends[level + 1 :]]
        levels.append(level)
    return levels


def merge_close(
    labels: list[str], positions: list[float], ratio: float = 1.05
) -> tuple[list[str], list[float]]:
    """One label for marks, in ascending order, that fall on the same place of a log axis.

    Examples
    --------
    >>> merge_close(["a", "b", "c"], [1.0, 1.01, 2.0])
    (['a, b', 'c'], [1.0, 2.0])
    """
    texts, places = labels[:1], positions[:1]
    for label, position in zip(labels[1:], positions[1:], strict=True):
        if position <= places[-1] * ratio:
            texts[-1] = f"{texts[-1]}, {label}"
        else:
            texts.append(label)
            places.append(position)
    return texts, places


def emptiest_corner(lines) -> str:
    """Corner of the axes that holds the fewest points of the lines."""
    points = []
    for line in lines:
        x, y = line.get_xdata(), line.get_ydata()
        fine = np.linspace(0, len(x) - 1, 200)  # lines cross corners between their points too
        steps = np.arange(len(x))
        path = np.column_stack(
            [10 ** np.interp(fine, steps, np.log10(x)), np.interp(fine, steps, y)]
        )
        points.append(line.axes.transAxes.inverted().transform(line.axes.transData.transform(path)))
    x, y = np.concatenate(points).T
    inside = {
        f"{vertical} {horizontal}": (side & height).sum()
        for vertical, height in (("upper", y > 0.7), ("lower", y < 0.3))
        for horizontal, side in (("left", x < 0.4), ("right", x > 0.6))
    }
    return min(inside, key=lambda corner: inside[corner])
