"""Examples: ordered, re-iterable batches of any kind of data."""

from influencekit.data._batch import Batch, leaves
from influencekit.data._examples import Examples, make_examples
from influencekit.data._examples_list import ExamplesList, each, open_examples

__all__ = ["Batch", "Examples", "ExamplesList", "each", "leaves", "make_examples", "open_examples"]
