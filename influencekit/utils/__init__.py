"""Small tools: scikit-learn's private side, memory."""

from influencekit.utils._memory import available_memory, format_bytes, parse_memory
from influencekit.utils._progress import progress
from influencekit.utils.validation import (
    Interval,
    OutputContainerMixin,
    StrOptions,
    validate_parameters,
)

__all__ = [
    "Interval",
    "OutputContainerMixin",
    "StrOptions",
    "available_memory",
    "format_bytes",
    "parse_memory",
    "progress",
    "validate_parameters",
]
