"""Small tools: scikit-learn's private side, memory."""

from influencekit.utils._memory import available_memory, format_bytes, parse_memory
from influencekit.utils._sklearn import (
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
    "validate_parameters",
]
