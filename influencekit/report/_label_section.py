"""The rows whose labels a person should look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.applications._noisy_labels import NoisyLabelDetector
from influencekit.report._cases import Names
from influencekit.report._examples import row_name
from influencekit.report._text import number

__all__ = ["LabelSection", "check_detector", "label_section"]

#: Most rows on the page.
_MOST_ROWS = 20


@dataclass(frozen=True)
class LabelSection:
    """Content of the section on labels.

    Attributes
    ----------
    note : str
    head : list of str
    rows : list of list of str
    """

    note: str
    head: list[str]
    rows: list[list[str]]


def check_detector(detector: Any, n_train: int) -> None:
    """Refuse anything but a fitted detector of the training rows.

    Raises
    ------
    TypeError, NotFittedError, ValueError
    """
    if detector is None:
        return
    if not isinstance(detector, NoisyLabelDetector):
        raise TypeError(
            f"detector: got {type(detector).__name__}; accepted is a fitted NoisyLabelDetector."
        )
    check_is_fitted(detector, "label_scores_")
    if len(detector.label_scores_) != n_train:
        raise ValueError(
            f"detector: was fitted on {len(detector.label_scores_):,} rows, and the attributor on "
            f"{n_train:,}; accepted is a detector that was fitted on the same rows."
        )


def label_section(detector: Any, names: Names, index: Any) -> LabelSection | None:
    """The first rows of a detector's table.

    Parameters
    ----------
    detector : fitted NoisyLabelDetector or None
    names : Names
    index : Index or None
        Row labels of the training data.

    Returns
    -------
    LabelSection or None
    """
    if detector is None:
        return None
    table = detector.review_table_
    columns = [name for name in table.columns if name != "score"]
    shown = table.iloc[:_MOST_ROWS]
    rows = [
        [_cell(name, value, names, index) for name, value in zip(columns, row, strict=True)]
        for row in shown[columns].itertuples(index=False, name=None)
    ]
    n_suspected, n = int(detector.suspected_.sum()), len(detector.label_scores_)
    found = (
        f"{n_suspected:,} of {n:,} rows are suspected" if n_suspected else "Rows are ranked only"
    )
    note = (
        f"{found}, by method={detector.method_!r}; the {len(rows)} most suspicious ones are shown."
    )
    return LabelSection(note, [name.replace("_", ": ") for name in columns], rows)


def _cell(column: str, value: Any, names: Names, index: Any) -> str:
    """One value as text; rows with their labels."""
    if column == "row":
        label = row_name(index, value)
        return str(value) if label is None else f"{value} ({label})"
    if column in ("given", "likely"):
        return names(value)
    if column == "neighbors":
        return ", ".join(str(row) for row in np.ravel(value))
    return number(float(value))
