"""Small tools: private parts of scikit-learn, memory, files, torch."""

from influencekit.utils.validation import Interval, StrOptions

__all__ = [
    "Interval",
    "StrOptions",
]
