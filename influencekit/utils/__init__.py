"""Small tools: scikit-learn's private side, memory, files, torch."""

from influencekit.utils._files import remove_abandoned, whole_file
from influencekit.utils._long_work import (
    chunks,
    format_bytes,
    free_memory,
    parse_memory,
    progress,
)
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import (
    MODULE_LOCK,
    count_rows,
    count_saved_bytes,
    map_tensors,
    no_hidden_loops,
    plain_kernels,
    select_rows,
    simple_kernels,
    with_gradients,
)
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
    "MODULE_LOCK",
    "OutputContainerMixin",
    "StrOptions",
    "chunks",
    "count_rows",
    "count_saved_bytes",
    "draw_seed",
    "format_bytes",
    "free_memory",
    "map_tensors",
    "no_hidden_loops",
    "parse_memory",
    "plain_kernels",
    "progress",
    "remove_abandoned",
    "select_rows",
    "simple_kernels",
    "validate_parameters",
    "whole_file",
    "with_gradients",
]
