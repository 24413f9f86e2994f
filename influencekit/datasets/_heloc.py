"""FICO's Home Equity Line of Credit applications, from a file that the user has downloaded."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from influencekit.datasets._bunch import as_bunch, read_table, rows_of_tenth

__all__ = ["load_heloc"]

TARGET = "RiskPerformance"
DELINQUENCY = "MSinceMostRecentDelq"
INQUIRY = "MSinceMostRecentInqexcl7days"
RECORD = "MaxDelq2PublicRecLast12M"
FEATURES = [
    "ExternalRiskEstimate",
    "MSinceOldestTradeOpen",
    "MSinceMostRecentTradeOpen",
    "AverageMInFile",
    "NumSatisfactoryTrades",
    "NumTrades60Ever2DerogPubRec",
    "NumTrades90Ever2DerogPubRec",
    "PercentTradesNeverDelq",
    DELINQUENCY,
    RECORD,
    "MaxDelqEver",
    "NumTotalTrades",
    "NumTradesOpeninLast12M",
    "PercentInstallTrades",
    INQUIRY,
    "NumInqLast6M",
    "NumInqLast6Mexcl7days",
    "NetFractionRevolvingBurden",
    "NetFractionInstallBurden",
    "NumRevolvingTradesWBalance",
    "NumInstallTradesWBalance",
    "NumBank2NatlTradesWHighUtilization",
    "PercentTradesWBalance",
]
#: Codes in place of numbers: condition not met, no usable record, no bureau record.
NOT_MET, NOT_USABLE, NO_RECORD = -7, -8, -9
#: Largest kept value of RECORD; above it stand codes that mean "other".
LARGEST_RECORD = 7


def load_heloc(path: str | os.PathLike, *, as_frame: bool = False, return_X_y: bool = False) -> Any:
    """Load FICO HELOC from its file (classification, 9,871 x 23 after cleaning).

    FICO gives the file to those who accept its terms, so nothing is downloaded here.

    Parameters
    ----------
    path : str or path
        ``heloc_dataset_v1.csv`` or a file like it: the column ``RiskPerformance`` with "Good"
        and "Bad", and the 23 features, in any order.
    as_frame : bool, default=False
        pandas in place of arrays.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    Bunch, or tuple of (data, target)
        ``data``, ``target`` (1 for "Good"), ``frame``, ``feature_names``, ``target_name``,
        ``train_rows`` and ``test_rows`` (positions, the split of [1]_).

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If columns are missing, or a label is neither "Good" nor "Bad".

    Notes
    -----
    Codes are cleaned as in the notebooks of [1]_.  Rows all of whose features are -9 are dropped
    (10,459 to 9,871).  Months since the last delinquency: -7 becomes the maximum + 1, -8 the mean.
    Months since the last inquiry: -7 becomes 0, -8 the maximum + 1.  ``MaxDelq2PublicRecLast12M``
    is capped at 7.  What is left of -8 and -9 becomes its column's mean.  The split is a tenth to
    test, ``random_state=0``; there features are then standardized by the training rows, which is
    left to you.

    Means and maxima are over the values that are not negative in the rows of the file that are
    kept.  Whether the notebooks count replaced values among them is not known to us.

    References
    ----------
    .. [1] D. Wei, I. Padhi, S. Ghosh, A. Dhurandhar, K. N. Ramamurthy, M. Chang. Final-model-only
       data attribution with a unifying view of gradient-based methods. NeurIPS 2025,
       arXiv 2412.03906.
    """
    frame = read_table(path, "load_heloc", [TARGET, *FEATURES])
    values = frame[FEATURES].astype(float)
    kept = ~(values <= NO_RECORD).all(axis=1)
    X = _cleaned(values[kept]).reset_index(drop=True)
    labels = frame.loc[kept, TARGET].astype(str).str.strip().reset_index(drop=True)
    unknown = sorted(set(labels) - {"Good", "Bad"})
    if unknown:
        raise ValueError(
            f"load_heloc: {TARGET} holds {unknown}; accepted are 'Good' and 'Bad'. Give FICO's "
            "own file."
        )
    y = (labels == "Good").astype(np.int64)
    return as_bunch(X, y, as_frame=as_frame, return_X_y=return_X_y, **rows_of_tenth(len(X)))


def _cleaned(values: Any) -> Any:
    """Numbers in place of codes."""
    known = values.where(values >= 0)
    largest, mean = known.max(), known.mean()
    new = values.copy()
    new[DELINQUENCY] = new[DELINQUENCY].replace(NOT_MET, largest[DELINQUENCY] + 1)
    new[INQUIRY] = new[INQUIRY].replace({NOT_MET: 0.0, NOT_USABLE: largest[INQUIRY] + 1})
    new[RECORD] = new[RECORD].clip(upper=LARGEST_RECORD)
    mean[RECORD] = known[RECORD].clip(upper=LARGEST_RECORD).mean()
    return new.where(~new.isin([NOT_USABLE, NO_RECORD]), mean, axis=1)
