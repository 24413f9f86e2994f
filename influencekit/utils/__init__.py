"""Small tools: scikit-learn's private side, memory, files, autograd."""

from influencekit.utils._autograd import count_saved_bytes, with_gradients
from influencekit.utils._files import remove_abandoned, whole_file
from influencekit.utils._memory import chunks, format_bytes, free_memory, parse_memory
from influencekit.utils._progress import progress
from influencekit.utils._random import draw_seed
from influencekit.utils.validation import (
    HasMethods,
    Interval,
    OutputContainerMixin,
    StrOptions,
    validate_parameters,
)

__all__ = [
    "HasMethods",
    "Interval",
    "OutputContainerMixin",
    "StrOptions",
    "chunks",
    "count_saved_bytes",
    "draw_seed",
    "format_bytes",
    "free_memory",
    "parse_memory",
    "progress",
    "remove_abandoned",
    "validate_parameters",
    "whole_file",
    "with_gradients",
]
