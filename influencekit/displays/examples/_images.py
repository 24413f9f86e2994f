"""Examples as images of one value range, and their drawing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from influencekit.displays._style import literal

__all__ = ["Images", "as_images", "draw_image"]


class Images(NamedTuple):
    """Images to draw, (n, h, w) or (n, h, w, 3 or 4), with the value range they share."""

    train: NDArray
    test: NDArray
    low: float
    high: float


def as_images(X_train, X_test, image_shape: tuple[int, ...] | None) -> Images:
    """Shape examples as images and find their common range.

    Parameters
    ----------
    X_train, X_test : array-like or DataFrame
        Examples to draw, flat with `image_shape`, or already (n, h, w), (n, h, w, channels)
        or (n, channels, h, w) with 1, 3 or 4 channels.
    image_shape : tuple of int or None

    Raises
    ------
    ValueError
        If the examples are not images of that shape.
    """
    train, test = _shape(X_train, image_shape, "X_train"), _shape(X_test, image_shape, "X_test")
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"Images of `X_train` have shape {train.shape[1:]}, those of `X_test` "
            f"{test.shape[1:]}; they must agree."
        )
    values = np.concatenate([train.ravel(), test.ravel()])
    low, high = float(values.min()), float(values.max())
    if train.ndim == 4:  # colour: leave the usual ranges alone, map any other to [0, 1]
        full = 255.0 if train.dtype == np.uint8 else 1.0
        low, high = (0.0, full) if low >= 0 and high <= full else (low, high)
        span = (high - low) or 1.0
        train, test = (train - low) / span, (test - low) / span
        low, high = 0.0, 1.0
    return Images(train, test, low, high)


def draw_image(ax, image: NDArray, images: Images, cmap, frame: dict, caption: str) -> None:
    """Draw one image with a coloured frame and a caption under it."""
    ax.imshow(image, cmap=cmap, vmin=images.low, vmax=images.high, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(literal(caption), fontsize=8, labelpad=3)
    for spine in ax.spines.values():
        spine.set(visible=True, linewidth=2.5 if "linestyle" in frame else 1)
        spine.set(color=frame["color"], linestyle=frame.get("linestyle", "-"))


def _shape(X, image_shape: tuple[int, ...] | None, name: str) -> NDArray:
    array = np.asarray(X)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` holds no numbers, so no images; kind='bars' and `to_frame()` show any rows."
        )
    if image_shape is not None:
        if np.prod(array.shape[1:]) != np.prod(image_shape):
            raise ValueError(
                f"`image_shape` {tuple(image_shape)} has {np.prod(image_shape)} values, an "
                f"example of `{name}` has {np.prod(array.shape[1:])}."
            )
        array = array.reshape(len(array), *image_shape)
    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (3, 4)):
        return array
    raise ValueError(
        f"`{name}` with examples of shape {array.shape[1:]} is not seen as images. Give "
        "`image_shape`, for instance (8, 8) for 64 flat pixels, or take kind='bars' for tabular "
        "rows."
    )
