"""Examples: ordered, re-iterable batches of any kind of data."""

from influencekit.data._batch import Batch
from influencekit.data._examples import Examples, make_examples

__all__ = ["Batch", "Examples", "make_examples"]
