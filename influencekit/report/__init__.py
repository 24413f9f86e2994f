"""One self-contained HTML page on what made a model answer as it did."""

from influencekit.report._report import AttributionReport

__all__ = [
    "AttributionReport",
]
