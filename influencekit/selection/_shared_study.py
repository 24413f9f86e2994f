"""Optuna studies that searches share: opened by one process at a time, for equal searches only."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.study import StudyDirection
from optuna.trial import TrialState

from influencekit.selection._question import Part

__all__ = ["open_study", "study_lock"]

#: Attribute of a study: the fingerprints of its search, and the seeds of its attributor.
QUESTION = "influencekit_question"
#: Seconds to wait for other processes that open a study, and for SQLite's own lock.
_LOCK_SECONDS, _SQLITE_SECONDS = 600, 120


def open_study(
    storage: Any,
    study_name: str | None,
    sampler: optuna.samplers.BaseSampler | None,
    asked: dict[str, Part],
    seeds: dict[str, int],
) -> tuple[optuna.Study, dict[str, int]]:
    """Create a study, or open one of an equal search.

    Parameters
    ----------
    storage : str, optuna storage or None
    study_name : str or None
    sampler : optuna sampler or None
    asked : dict of str to dict
        From :func:`question`; not looked at where ``storage`` is None.
    seeds : dict of str to int
        Of the attributor, for a new study.

    Returns
    -------
    study : optuna.Study
    seeds : dict of str to int
        Those with which the study's first search scored.

    Raises
    ------
    ValueError
        If the study was made by a different search.
    """
    if storage is None:
        study = optuna.create_study(study_name=study_name, sampler=sampler, direction="maximize")
        return study, seeds
    with study_lock(storage, study_name):
        study = optuna.create_study(
            storage=_patient(storage),
            sampler=sampler,
            study_name=study_name,
            direction="maximize",
            load_if_exists=True,
        )
        return study, {**seeds, **_agree(study, asked, seeds)}


@contextmanager
def study_lock(storage: Any, study_name: str | None) -> Iterator[None]:
    """Keep other processes of this machine from opening the same study while inside.

    Parameters
    ----------
    storage : str, optuna storage or None
        A lock of an SQLite file is a file beside it; others lie in the folder of temporary files.
    study_name : str or None
    """
    if storage is None:
        yield
        return
    with FileLock(_lock_path(storage, study_name), timeout=_LOCK_SECONDS):
        yield


def _lock_path(storage: Any, study_name: str | None) -> Path:
    url = _url(storage)
    kind, _, database = url.partition(":///")
    database = database.split("?")[0]
    if kind.startswith("sqlite") and database and not database.startswith((":memory:", "file:")):
        return Path(f"{os.path.abspath(database)}.lock")
    user = getattr(os, "getuid", lambda: "")()  # another user's lock could not be opened
    key = hashlib.sha256(f"{user} {study_name}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"influencekit-study-{key}.lock"


def _url(storage: Any) -> str:
    url = storage if isinstance(storage, str) else getattr(storage, "url", "")
    return url if isinstance(url, str) else ""


def _patient(storage: Any) -> Any:
    """Let SQLite wait for other processes that write trials; others as they are."""
    if not isinstance(storage, str) or not storage.startswith("sqlite"):
        return storage
    wait = {"connect_args": {"timeout": _SQLITE_SECONDS}}
    return optuna.storages.RDBStorage(storage, engine_kwargs=wait)


def _agree(study: optuna.Study, asked: dict[str, Part], seeds: dict[str, int]) -> dict[str, int]:
    """Store or compare the fingerprints; return the seeds of the study's attributor."""
    stored = study.user_attrs.get(QUESTION)
    if stored is None:
        _require_unused(study)
        study.set_user_attr(QUESTION, {"parts": asked, "seeds": seeds})
        return seeds
    differing = [name for name, part in asked.items() if not _same(part, stored["parts"].get(name))]
    if differing:
        raise ValueError(_refusal(study.study_name, differing, asked, stored["parts"]))
    return {name: seed for name, seed in stored["seeds"].items() if name in seeds}


def _same(part: Part, stored: Part | None) -> bool:
    return stored is not None and part["fingerprint"] == stored["fingerprint"]


def _require_unused(study: optuna.Study) -> None:
    """Refuse a study with trials of an unknown search."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
    if not trials and study.directions == [StudyDirection.MAXIMIZE]:
        return
    directions = [direction.name.lower() for direction in study.directions]
    raise ValueError(
        f"study_name: the study {study.study_name!r} in storage was not made by this version of "
        f"LDSSearch: it has {len(trials):,} trials and the directions {directions}, and does not "
        "say for which data, model and attributor. Accepted is a study of the same search, or a "
        "new one: give another study_name."
    )


def _refusal(name: str, differing: list[str], asked: dict[str, Part], stored: dict) -> str:
    found = []
    for part in differing:
        got, has = asked[part]["is"], stored.get(part, {}).get("is", "none")
        contents = "other contents" if got == has else f"got {got}; the study has {has}"
        found.append(f"{part} ({contents})")
    own_retrainings = (
        " Another random_state retrains on other subsets: give subset_outputs= of the first search."
        if "ground truth" in differing
        else ""
    )
    return (
        f"study_name: the study {name!r} in storage was made by a different search. What differs: "
        f"{', '.join(found)}. Accepted is a study with the same {', '.join(asked)}; "
        "n_trials, sampler and the searched parameters may differ. Give another study_name."
        f"{own_retrainings}"
    )
