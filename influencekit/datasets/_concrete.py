"""Compressive strength of concrete, from UCI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.datasets import fetch_openml

from influencekit.datasets._bunch import as_bunch, find_file, get_data_home
from influencekit.utils._optional import import_optional

__all__ = ["fetch_uci_concrete"]

NAMES = [
    "cement",
    "slag",
    "fly_ash",
    "water",
    "superplasticizer",
    "coarse_aggregate",
    "fine_aggregate",
    "age",
    "strength",
]
N_ROWS = 1030
DESCRIPTION = """Concrete Compressive Strength, I-Cheng Yeh, UCI id 165, CC BY 4.0.

1,030 mixtures: kilograms per cubic meter of seven ingredients, and the age in days; the target is
the compressive strength in MPa."""


def fetch_uci_concrete(
    *,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = False,
    return_X_y: bool = False,
    download_if_missing: bool = True,
) -> Any:
    """Load the UCI Concrete Compressive Strength data (regression, 1,030 x 8).

    Parameters
    ----------
    data_home : str, path or None, default=None
        Where to look for ``uci_concrete/concrete.csv.gz`` or ``concrete.csv`` (columns as in
        ``feature_names``, then ``strength``), and folder for OpenML's cache; see
        :func:`get_data_home`.
    as_frame : bool, default=False
        pandas in place of arrays.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.
    download_if_missing : bool, default=True
        Download from OpenML if the file is not found.

    Returns
    -------
    Bunch, or tuple of (data, target)
        ``data``, ``target``, ``frame``, ``feature_names``, ``target_name``, ``DESCR``.

    Raises
    ------
    OSError
        If the data are neither there nor to be had.
    ValueError
        If a file does not hold the 1,030 rows and 9 columns.

    References
    ----------
    .. [1] I.-C. Yeh. Modeling of strength of high-performance concrete using artificial neural
       networks. Cement and Concrete Research 28(12), 1998.
    """
    pd = import_optional("pandas", "fetch_uci_concrete")
    home = get_data_home(data_home)
    found = [find_file(home, "uci_concrete", n) for n in ("concrete.csv.gz", "concrete.csv")]
    path = next((p for p in found if p is not None), None)
    if path is not None:
        frame, source = pd.read_csv(path), path.name
    elif download_if_missing:
        frame, source = _from_openml(home), "OpenML"
    else:
        raise OSError(
            f"uci_concrete: no file concrete.csv.gz in {home / 'uci_concrete'}, and "
            "download_if_missing=False. Name another data_home, or set download_if_missing=True."
        )
    if frame.shape != (N_ROWS, len(NAMES)):
        raise ValueError(
            f"uci_concrete: {source} holds {frame.shape[0]} rows and {frame.shape[1]} columns; "
            f"expected are {N_ROWS} and {len(NAMES)} (eight features, then the strength)."
        )
    frame.columns = NAMES
    frame = frame.astype(float)
    return as_bunch(
        frame[NAMES[:-1]],
        frame["strength"],
        as_frame=as_frame,
        return_X_y=return_X_y,
        DESCR=DESCRIPTION,
    )


def _from_openml(home: Path) -> Any:
    """The frame from OpenML, which has the same columns in the same order, under longer names."""
    try:
        found = fetch_openml(
            name="concrete_compressive_strength",
            version=1,
            data_home=str(home / "openml"),
            as_frame=True,
        )
    except Exception as error:
        raise OSError(
            f"uci_concrete: not found in {home}, and the download from OpenML failed ({error}). "
            f"Put "
            "concrete.csv.gz into a folder and name it in data_home or INFLUENCEKIT_DATA."
        ) from error
    return found.frame
