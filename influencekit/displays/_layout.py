"""Curves in order, labels that do not touch, and a free corner for the legend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["curve", "emptiest_corner", "label_levels"]


def curve(x, y, error, names) -> tuple[NDArray, NDArray, NDArray | None]:
    """Curve sorted by x, as float arrays of one length."""
    arrays = [None if a is None else np.asarray(a, dtype=np.float64) for a in (x, y, error)]
    for array, name in zip(arrays, names, strict=True):
        if array is not None and (array.ndim != 1 or array.shape != arrays[0].shape):
            raise ValueError(
                f"`{name}` must be 1-d and as long as `{names[0]}`; got shape {array.shape} "
                f"beside {arrays[0].shape}."
            )
    if not arrays[0].size or not np.isfinite(arrays[0]).all() or (arrays[0] < 0).any():
        raise ValueError(f"`{names[0]}` must be finite dampings of 0 or more, at least one.")
    order = np.argsort(arrays[0], kind="stable")
    order = order[arrays[0][order] > 0]
    if not order.size:
        raise ValueError(f"`{names[0]}` has no positive damping; a logarithmic axis needs one.")
    return tuple(None if array is None else array[order] for array in arrays)


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
    return min(inside, key=inside.get)
