"""American Community Survey tasks, by way of the folktables package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from influencekit.datasets._bunch import as_bunch, find_file, get_data_home
from influencekit.datasets._states import STATE_CODES, check_states
from influencekit.utils._optional import import_optional
from influencekit.utils._suggest import check_choice

__all__ = ["fetch_acs", "fetch_acs_income"]

#: Numeric columns; all others are codes of categories.
NUMERIC = {"AGEP", "WKHP", "PINCP", "JWMNP", "POVPIP", "JWAP", "JWDP"}
SAMPLE = "acs_income_2018_40pct.npz"
INCOME = ["AGEP", "COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "WKHP", "SEX", "RAC1P"]


def fetch_acs_income(
    states: str | Sequence[str] | None = None,
    survey_year: int = 2018,
    *,
    survey_horizon: str = "1-Year",
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y: bool = False,
    download_if_missing: bool = True,
) -> Any:
    """Load ACSIncome: whether a person earns more than 50,000 dollars a year.

    Parameters
    ----------
    states : str, sequence of str or None, default=None
        Postal codes such as ``["CA", "MA"]``; None is all states and Puerto Rico.
    survey_year : int, default=2018
    survey_horizon : {"1-Year", "5-Year"}, default="1-Year"
    data_home : str, path or None, default=None
        See :func:`get_data_home`, and Notes for the files that are looked for.
    as_frame : bool, default=True
        pandas in place of arrays; codes of categories are then of dtype category.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.
    download_if_missing : bool, default=True
        Let folktables download the states' files from the Census Bureau.

    Returns
    -------
    Bunch, or tuple of (data, target)
        The same as from :func:`fetch_acs`.

    Raises
    ------
    OSError
        If the data are neither there nor to be had.

    Notes
    -----
    Existing files in ``data_home`` are used first: folktables' own
    (``folktables/2018/1-Year/psam_p25.csv`` for Massachusetts), then, for 2018 and 1-Year, a
    prepared sample of 40 % of all rows, ``acs_income_2018/acs_income_2018_40pct.npz``.  The entry
    ``source`` of the Bunch names the file that was used.

    References
    ----------
    .. [1] F. Ding, M. Hardt, J. Miller, L. Schmidt. Retiring Adult: new datasets for fair
       machine learning. NeurIPS 2021, arXiv 2108.04884.
    """
    return fetch_acs(
        "ACSIncome",
        states,
        survey_year,
        survey_horizon=survey_horizon,
        data_home=data_home,
        as_frame=as_frame,
        return_X_y=return_X_y,
        download_if_missing=download_if_missing,
    )


def fetch_acs(
    task: str = "ACSIncome",
    states: str | Sequence[str] | None = None,
    survey_year: int = 2018,
    *,
    survey_horizon: str = "1-Year",
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y: bool = False,
    download_if_missing: bool = True,
) -> Any:
    """Load a prediction task of the American Community Survey.

    Parameters
    ----------
    task : str, default="ACSIncome"
        Name of a task in folktables: ACSIncome, ACSEmployment, ACSHealthInsurance,
        ACSPublicCoverage, ACSTravelTime, ACSMobility, ACSEmploymentFiltered,
        ACSIncomePovertyRatio.
    states : str, sequence of str or None, default=None
        Postal codes; None is all states and Puerto Rico.
    survey_year : int, default=2018
    survey_horizon : {"1-Year", "5-Year"}, default="1-Year"
    data_home : str, path or None, default=None
        See :func:`get_data_home`; folktables keeps its files in ``folktables`` there.
    as_frame : bool, default=True
        pandas in place of arrays; codes of categories are then of dtype category.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.
    download_if_missing : bool, default=True
        Let folktables download what is missing from the Census Bureau.

    Returns
    -------
    Bunch, or tuple of (data, target)
        ``data``, ``target`` (0 or 1), ``group`` (the task's protected attribute, race for most
        tasks), ``frame``, ``feature_names``, ``categorical_features``, ``target_name``, ``source``.

    Raises
    ------
    ImportError
        If folktables is needed and not installed.
    OSError
        If the data are neither there nor to be had.
    ValueError
        If the task, a state or the year does not exist.

    References
    ----------
    .. [1] F. Ding, M. Hardt, J. Miller, L. Schmidt. Retiring Adult: new datasets for fair
       machine learning. NeurIPS 2021, arXiv 2108.04884.
    """
    import_optional("pandas", "fetch_acs")
    states, home = check_states(states), get_data_home(data_home)
    survey_year = _checked_year(survey_year)
    check_choice("survey_horizon", survey_horizon, ("1-Year", "5-Year"))
    sample = _sample_file(home, task, survey_year, survey_horizon)
    root = home / "folktables"
    if sample is not None and not _has_files(root, states, survey_year, survey_horizon):
        X, y, group, source = _from_sample(sample, states)
    else:
        X, y, group = _from_folktables(
            task, states, survey_year, survey_horizon, root, download_if_missing
        )
        source = f"folktables, {survey_year} {survey_horizon}"
    categorical = [name for name in X.columns if name not in NUMERIC]
    if as_frame:
        X = X.astype(dict.fromkeys(categorical, "category"))
    return as_bunch(
        X,
        y,
        as_frame=as_frame,
        return_X_y=return_X_y,
        group=group if as_frame else group.to_numpy(),
        categorical_features=categorical,
        source=source,
    )


def _checked_year(year: Any) -> int:
    try:
        whole = int(year)
    except (TypeError, ValueError):
        whole = 0
    if whole < 2000 or str(whole) != str(year):
        raise ValueError(f"survey_year: got {year!r}; accepted is a year such as 2018.")
    return whole


def _sample_file(home: Path, task: str, year: int, survey_horizon: str) -> Path | None:
    if (task, year, survey_horizon) != ("ACSIncome", 2018, "1-Year"):
        return None
    return find_file(home, "acs_income_2018", SAMPLE)


def _has_files(root: Path, states: list[str], year: int, survey_horizon: str) -> bool:
    """Whether folktables has the person file of every state."""
    folder = root / str(year) / survey_horizon
    return all((folder / _file_name(state, year)).is_file() for state in states)


def _file_name(state: str, year: int) -> str:
    if year >= 2017:
        return f"psam_p{STATE_CODES[state]:02d}.csv"
    return f"ss{str(year)[-2:]}p{state.lower()}.csv"


def _from_sample(path: Path, states: list[str]) -> tuple[Any, Any, Any, str]:
    pd = import_optional("pandas", "fetch_acs_income")
    with np.load(path, allow_pickle=False) as arrays:
        rows = np.isin(arrays["ST"], [STATE_CODES[state] for state in states])
        if not rows.any():
            raise ValueError(f"states: {path.name} does not have rows of {states}.")
        index = pd.Index(arrays["row"][rows], name="row")
        X = pd.DataFrame({n: arrays[n][rows].astype(np.int64) for n in INCOME}, index=index)
        y = pd.Series(arrays["y"][rows].astype(np.int64), index=index, name="PINCP")
    group = X["RAC1P"].rename("group")
    return X, y, group, f"{path.name}: 40 % of the rows of folktables, 2018 1-Year"


def _from_folktables(
    task: str, states: list[str], year: int, survey_horizon: str, root: Path, download: bool
) -> tuple[Any, Any, Any]:
    problem, source_class = _problem(task)
    if not download and not _has_files(root, states, year, survey_horizon):
        missing = [s for s in states if not _has_files(root, [s], year, survey_horizon)]
        raise OSError(
            f"{task}: no file for {missing} in {root / str(year) / survey_horizon}, and "
            "download_if_missing=False. Name another data_home, or set download_if_missing=True."
        )
    source = source_class(str(year), survey_horizon, "person", root_dir=str(root))
    try:
        data = source.get_data(states=states, download=download)
    except OSError as error:
        raise OSError(
            f"{task}: the Census Bureau's files of {states} could not be downloaded ({error}). "
            f"Put them into {root / str(year) / survey_horizon} yourself "
            f"(such as {_file_name(states[0], year)}), or name a data_home that contains them."
        ) from error
    X, y, group = problem.df_to_pandas(data)
    return X, y.iloc[:, 0].astype(np.int64), group.iloc[:, 0].rename("group")


def _problem(task: str) -> Any:
    """A folktables problem by name, and the class of its data source."""
    folktables = import_optional("folktables", task)
    names = [name for name in dir(folktables) if name.startswith("ACS") and name != "ACSDataSource"]
    check_choice("task", task, names)
    return getattr(folktables, task), folktables.ACSDataSource
