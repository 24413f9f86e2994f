"""Examples as images of one value range, and their drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from influencekit.displays._style import FIRST, SECOND, literal, neutral_color

__all__ = ["Grid", "Images", "as_images", "draw_image"]


class Images(NamedTuple):
    """Images to draw, (n, h, w) or (n, h, w, 3 or 4), with their common value range."""

    train: NDArray
    test: NDArray
    low: float
    high: float


def as_images(X_train: Any, X_query: Any, image_shape: tuple[int, ...] | None) -> Images:
    """Shape examples as images and find their common range.

    Parameters
    ----------
    X_train, X_query : array-like or DataFrame
        Examples to draw, flat with `image_shape`, or already (n, h, w), (n, h, w, channels)
        or (n, channels, h, w) with 1, 3 or 4 channels.
    image_shape : tuple of int or None

    Raises
    ------
    ValueError
        If the examples are not images of that shape.
    """
    train, test = _shape(X_train, image_shape, "X_train"), _shape(X_query, image_shape, "X_query")
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"Images of `X_train` have shape {train.shape[1:]}, those of `X_query` "
            f"{test.shape[1:]}; they must agree."
        )
    values = np.concatenate([train.ravel(), test.ravel()])
    low, high = float(values.min()), float(values.max())
    if train.ndim == 4:  # color: keep the usual ranges, map others to [0, 1]
        full = 255.0 if train.dtype == np.uint8 else 1.0
        low, high = (0.0, full) if low >= 0 and high <= full else (low, high)
        span = (high - low) or 1.0
        train, test = (train - low) / span, (test - low) / span
        low, high = 0.0, 1.0
    return Images(train, test, low, high)


def draw_image(
    ax: Any, image: NDArray, images: Images, cmap: Any, frame: dict, caption: str
) -> None:
    """Draw one image with a colored frame and a caption under it."""
    ax.imshow(image, cmap=cmap, vmin=images.low, vmax=images.high, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(literal(caption), fontsize=8, labelpad=3)
    for spine in ax.spines.values():
        spine.set(visible=True, linewidth=2.5 if "linestyle" in frame else 1)
        spine.set(color=frame["color"], linestyle=frame.get("linestyle", "-"))


def _shape(X: Any, image_shape: tuple[int, ...] | None, name: str) -> NDArray:
    array = np.asarray(X)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` is not numeric, so it is not images; kind='bars' and `to_frame()` show any "
            f"rows."
        )
    if image_shape is not None:
        if np.prod(array.shape[1:]) != np.prod(image_shape):
            raise ValueError(
                f"`image_shape` {tuple(image_shape)} has {np.prod(image_shape)} values, an "
                f"example of `{name}` has {np.prod(array.shape[1:])}; accepted are shapes of as "
                "many."
            )
        array = array.reshape(len(array), *image_shape)
    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (3, 4)):
        return array
    raise ValueError(
        f"`{name}` with examples of shape {array.shape[1:]} cannot be shown as images. Give "
        f"`image_shape`, for instance (8, 8) for 64 flat pixels, or use kind='bars' for tabular "
        f"rows."
    )


# all in units of one image's width
MARGIN, GAP, BETWEEN, HEADING = 0.1, 0.5, 0.12, 0.42
INCHES = 0.85  # of that width


@dataclass(frozen=True)
class Grid:
    """Rows of test example | proponents | opponents, with room for captions.

    Parameters
    ----------
    n_rows, n_left, n_right : int
        Test examples, proponents and opponents of each.
    caption_lines : int
        Lines of text under an image.
    """

    n_rows: int
    n_left: int
    n_right: int
    caption_lines: int = 2

    @property
    def width(self) -> float:
        n_cells = 1 + self.n_left + self.n_right
        return 2 * MARGIN + n_cells + (n_cells - 3) * BETWEEN + 2 * GAP

    @property
    def row_height(self) -> float:
        return 1 + (0.2 + 0.15 * self.caption_lines)

    @property
    def height(self) -> float:
        return MARGIN + HEADING + self.n_rows * self.row_height

    @property
    def figsize(self) -> tuple[float, float]:
        """Inches at which captions in 8 points fit."""
        return self.width * INCHES, self.height * INCHES

    def left_edge(self, column: int) -> float:
        """Left edge of a column, as a share of the width; column 0 is the test example."""
        groups = int(column > 0) + int(column > self.n_left)
        x = MARGIN + column + groups * GAP + (column - groups) * BETWEEN
        return x / self.width

    def add_cell(self, ax: Any, row: int, column: int) -> Any:
        """Axes of one image."""
        bottom = self.height - HEADING - row * self.row_height - 1
        bounds = (self.left_edge(column), bottom / self.height, 1 / self.width, 1 / self.height)
        return ax.inset_axes(bounds)

    def write_none(self, ax: Any, row: int, column: int) -> None:
        """Write "none" in the place of the first image of an empty group."""
        x = self.left_edge(column) + 0.5 / self.width
        y = (self.height - HEADING - row * self.row_height - 0.5) / self.height
        text = {"ha": "center", "va": "center", "fontsize": 8, "transform": ax.transAxes}
        ax.text(x, y, "none", color=neutral_color(), **text)

    def write_headings(self, ax: Any) -> None:
        """Name the three groups above the first row."""
        y = 1 - 0.5 * HEADING / self.height
        groups = [
            (0, 1, "test", neutral_color()),
            (1, self.n_left, "proponents (score > 0)", FIRST["color"]),
            (1 + self.n_left, self.n_right, "opponents (score < 0)", SECOND["color"]),
        ]
        for column, n_columns, text, color in groups:
            if not n_columns:
                continue
            right = self.left_edge(column + n_columns - 1) + 1 / self.width
            middle = (self.left_edge(column) + right) / 2
            style = {"ha": "center", "va": "center", "fontsize": 10, "weight": "bold"}
            ax.text(middle, y, text, color=color, transform=ax.transAxes, **style)
