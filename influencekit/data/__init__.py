"""Examples: ordered, re-iterable batches of any kind of data."""

from influencekit.data._examples import Examples, make_examples, open_examples

__all__ = [
    "Examples",
    "make_examples",
    "open_examples",
]
