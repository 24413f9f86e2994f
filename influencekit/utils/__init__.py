"""Small tools: scikit-learn's private side, memory, files, torch."""

from influencekit.utils._files import remove_abandoned, whole_file
from influencekit.utils._long_work import (
    chunks,
    format_bytes,
    free_memory,
    parse_memory,
    progress,
)
from influencekit.utils._parameters import SuggestingEstimator
from influencekit.utils._random import draw_seed
from influencekit.utils._suggest import check_choice, did_you_mean
from influencekit.utils._torch import count_saved_bytes, with_gradients
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
    "SuggestingEstimator",
    "StrOptions",
    "check_choice",
    "chunks",
    "count_saved_bytes",
    "did_you_mean",
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
