"""Examples: ordered, re-iterable batches of any kind of data."""

from influencekit.data._examples import (
    Examples,
    ExamplesList,
    each,
    make_examples,
    open_examples,
)
from influencekit.data._inputs import check_sample_weight, compare_row_labels
from influencekit.data._sources import Batch, leaves
from influencekit.data._targets import one_column
from influencekit.data._training_rows import training_examples

__all__ = [
    "Batch",
    "Examples",
    "ExamplesList",
    "check_sample_weight",
    "compare_row_labels",
    "each",
    "leaves",
    "make_examples",
    "one_column",
    "open_examples",
    "training_examples",
]
