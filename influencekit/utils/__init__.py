"""Small tools: scikit-learn's private side, memory, files, torch."""

from influencekit.utils.validation import HasMethods, Interval, StrOptions

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
]
