"""Energy efficiency of buildings, from UCI's file that the user has downloaded."""

from __future__ import annotations

import os
from typing import Any

from influencekit.datasets._bunch import as_bunch, read_table, rows_of_tenth

__all__ = ["load_uci_energy"]

FEATURES = [f"X{i}" for i in range(1, 9)]
TARGETS = ("Y1", "Y2")


def load_uci_energy(
    path: str | os.PathLike, *, as_frame: bool = False, return_X_y: bool = False
) -> Any:
    """Load UCI Energy Efficiency from its file (regression, 768 x 8).

    Parameters
    ----------
    path : str or path
        ``ENB2012_data.xlsx`` of UCI id 242 (pandas reads it with openpyxl), or the same as csv:
        columns ``X1`` to ``X8``, ``Y1``, ``Y2``.  Empty rows are left out.
    as_frame : bool, default=False
        pandas in place of arrays.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    Bunch, or tuple of (data, target)
        ``data``, ``target`` (``Y1``, the heating load; ``Y2`` is dropped), ``frame``,
        ``feature_names``, ``target_name``, ``train_rows`` and ``test_rows`` (positions, the split
        of [1]_: a tenth to test, ``random_state=0``).

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If columns are missing.

    Notes
    -----
    In [1]_ features and target are then standardized by the training rows, which is left to you.

    References
    ----------
    .. [1] D. Wei, I. Padhi, S. Ghosh, A. Dhurandhar, K. N. Ramamurthy, M. Chang. Final-model-only
       data attribution with a unifying view of gradient-based methods. NeurIPS 2025,
       arXiv 2412.03906.
    .. [2] A. Tsanas, A. Xifara. Accurate quantitative estimation of energy performance of
       residential buildings using statistical machine learning tools. Energy and Buildings 49,
       2012.
    """
    frame = read_table(path, "load_uci_energy", [*FEATURES, *TARGETS])
    frame = frame[[*FEATURES, TARGETS[0]]].astype(float)
    return as_bunch(
        frame[FEATURES],
        frame[TARGETS[0]],
        as_frame=as_frame,
        return_X_y=return_X_y,
        **rows_of_tenth(len(frame)),
    )
