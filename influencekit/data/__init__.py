"""Examples: any kind of data as batches in a fixed order, for many passes."""

from influencekit.data._examples import Examples, make_examples, open_examples
from influencekit.data.slices._open import open_slices
from influencekit.data.slices._row_slices import RowSlices

__all__ = [
    "Examples",
    "RowSlices",
    "make_examples",
    "open_examples",
    "open_slices",
]
