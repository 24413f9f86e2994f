"""Examples: any kind of data as batches in a fixed order, for many passes."""

from influencekit.data._examples import Examples, make_examples, open_examples

__all__ = [
    "Examples",
    "make_examples",
    "open_examples",
]
