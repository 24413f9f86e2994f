"""Small tools: scikit-learn's private side, memory, files, torch."""

from influencekit.utils.validation import Interval, StrOptions

__all__ = [
    "Interval",
    "StrOptions",
]
