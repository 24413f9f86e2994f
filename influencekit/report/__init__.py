"""One self-contained HTML page about the training examples behind a model's predictions."""

from influencekit.report._report import AttributionReport

__all__ = [
    "AttributionReport",
]
