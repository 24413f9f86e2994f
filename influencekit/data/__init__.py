"""Examples: ordered, re-iterable batches of any kind of data."""

from influencekit.data._examples import (
    Examples,
    ExamplesList,
    column_means,
    each,
    make_examples,
    open_examples,
)
from influencekit.data._sources import Batch, leaves
from influencekit.data._targets import one_column

__all__ = [
    "Batch",
    "Examples",
    "ExamplesList",
    "column_means",
    "each",
    "leaves",
    "make_examples",
    "one_column",
    "open_examples",
]
