"""Searches in storage that a kill has ended: their trials are failed, and they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from influencekit.selection._space import SEARCH, STANDARD_ERROR, ended_itself
from influencekit.utils._files import is_abandoned, unfinished_name

__all__ = ["Search", "begin_search", "caught_up", "ending", "is_new", "try_first"]

#: Attribute of a study: its searches that have not ended, by name.
_SEARCHES = "influencekit_searches"
#: Attribute of a study: what trials were told to try that are being replaced.
_TO_TRY = "influencekit_to_try"
#: Stands for the name of a search in trials that others have replaced.
_REPLACED = "replaced"
#: Names of searches that run in this process.
_RUNNING: set[str] = set()
#: Studies in a storage up to which a broken search is caught up with.
_MOST_STUDIES = 10_000
#: Age at which a running trial without the name of its search was left by a kill.
_LEFT = timedelta(minutes=10)


@dataclass(frozen=True)
class Search:
    """One search, which several processes may have worked on, each after the other was killed.

    Parameters
    ----------
    names : tuple of str
        Names of the processes' parts; the last one is this process's.
    start : int
        Number of trials that the study had before.
    """

    names: tuple[str, ...]
    start: int

    def trials(self, study: optuna.Study) -> list[FrozenTrial]:
        """Trials of this search that have come to an end of their own."""
        trials = study.get_trials(deepcopy=False)
        found = [t for t in trials if t.state.is_finished() and ended_itself(t)]
        return [t for t in found if t.user_attrs.get(SEARCH) in self.names]

    def mark(self, trial: optuna.Trial) -> None:
        """Say that a trial belongs to this search."""
        trial.set_user_attr(SEARCH, self.names[-1])


def begin_search(study: optuna.Study) -> Search:
    """Fail what killed searches left running; take one of them over, or begin a new one.

    The study's lock must be held.

    Parameters
    ----------
    study : optuna.Study

    Returns
    -------
    Search
    """
    known = study.user_attrs.get(_SEARCHES, {})
    broken = [name for name in known if _is_dead(name)]
    _fail_left(study, broken, alone=bool(broken) and len(broken) == len(known))
    own = unfinished_name("")
    search = Search((own,), len(study.get_trials(deepcopy=False)))
    if broken:
        last = known[broken[-1]]
        search = Search((*last["names"], own), last["start"])
    others = {name: stored for name, stored in known.items() if name not in broken}
    study.set_user_attr(_SEARCHES, {**others, own: asdict(search)})
    _RUNNING.add(own)
    return search


def _is_dead(name: str) -> bool:
    """Whether the process of a search, on this machine, works on it no more."""
    own_machine, own_process, _ = unfinished_name("").split("-")
    machine, process, _ = name.split("-")
    if machine != own_machine:
        return False
    return name not in _RUNNING if process == own_process else is_abandoned(Path(name), "")


def _fail_left(study: optuna.Study, broken: list[str], alone: bool) -> None:
    """Fail the trials that were left running; what they were told to try is tried first.

    What is to be tried is written down before anything is failed, so that a kill in here loses
    none of it.
    """
    trials = study.get_trials(deepcopy=False)
    left = [t for t in trials if t.state == TrialState.RUNNING and _is_left(t, broken, alone)]
    waiting = [t for t in trials if t.state == TrialState.WAITING]
    fixed = [t for t in left if "fixed_params" in t.system_attrs and not ended_itself(t)]
    to_try = study.user_attrs.get(_TO_TRY) or [_told(t) for t in fixed + waiting if fixed]
    if to_try:
        study.set_user_attr(_TO_TRY, to_try)
    for trial in left:
        study.tell(trial.number, state=TrialState.FAIL)
    if not to_try:
        return
    for _ in waiting:  # they come after the others, as they did
        replaced = study.ask()
        replaced.set_user_attr(SEARCH, _REPLACED)
        study.tell(replaced, state=TrialState.FAIL)
    for params, attributes in to_try:
        study.enqueue_trial(params, attributes)
    study.set_user_attr(_TO_TRY, [])


def _told(trial: FrozenTrial) -> tuple[dict, dict]:
    """Parameters that a trial was told to try, and its attributes from before it began."""
    of_run = (SEARCH, STANDARD_ERROR)
    own = {name: value for name, value in trial.user_attrs.items() if name not in of_run}
    return trial.system_attrs["fixed_params"], own


def is_new(study: optuna.Study) -> bool:
    """Whether none of a study's trials has begun."""
    return all(t.state == TrialState.WAITING for t in study.get_trials(deepcopy=False))


def try_first(study: optuna.Study, first: list[tuple[dict, dict]]) -> None:
    """Enqueue what a new study tries first, without what a killed search has enqueued.

    Trials that others have enqueued take its place.  The study's lock must be held.

    Parameters
    ----------
    study : optuna.Study
    first : list of (parameters, attributes)
    """
    if not is_new(study):  # trials of another process
        return
    told = [_told(trial) for trial in study.get_trials(deepcopy=False)]
    if told == first[: len(told)]:
        for params, attributes in first[len(told) :]:
            study.enqueue_trial(params, attributes)


def _is_left(trial: FrozenTrial, broken: list[str], alone: bool) -> bool:
    """Whether a running trial was left by a kill.

    One without the name of its search was asked for by a search that was killed before it could
    say so: at once if all searches were killed (``alone``), else it may still be at work.
    """
    if SEARCH in trial.user_attrs:
        return trial.user_attrs[SEARCH] in (*broken, _REPLACED)
    begun = trial.datetime_start
    return alone or (begun is not None and datetime.now() - begun > _LEFT)


@contextmanager
def ending(study: optuna.Study, search: Search, lock: AbstractContextManager) -> Iterator[None]:
    """Forget a search if the block comes to its end; else it can be taken over."""
    own = search.names[-1]
    try:
        yield
        with lock:
            known = study.user_attrs.get(_SEARCHES, {})
            study.set_user_attr(_SEARCHES, {k: v for k, v in known.items() if k != own})
    finally:
        _RUNNING.discard(own)


def caught_up(
    sampler: BaseSampler,
    study: optuna.Study,
    search: Search,
    draw: Callable[[optuna.Trial], Any],
) -> None:
    """Bring a new sampler to where the one of a broken search was, by repeating its trials.

    Parameters
    ----------
    sampler : optuna sampler
        Repeats its draws if it has a seed.
    study : optuna.Study
    search : Search
    draw : callable
        Draws all parameters of a trial.
    """
    done = search.trials(study)
    past = _namesake(study, sampler)
    if past is None:
        return
    before = study.get_trials(deepcopy=False)[: search.start]
    past.add_trials([trial for trial in before if trial.state.is_finished()])
    for trial in done:
        if "fixed_params" in trial.system_attrs:
            past.enqueue_trial(trial.system_attrs["fixed_params"], trial.user_attrs)
        again = past.ask()
        draw(again)
        if again.params != trial.params:
            return  # drawn without a seed, or while others added trials
        value = trial.value
        past.tell(again, value, state=TrialState.FAIL if value is None else None)


def _namesake(study: optuna.Study, sampler: BaseSampler) -> optuna.Study | None:
    """An empty study in memory with the number of another one; None if that is very large.

    Samplers that remember a search space refuse a study with another number.
    """
    storage = optuna.storages.InMemoryStorage()
    wanted = study._study_id  # noqa: SLF001  Optuna has no other name
    if wanted > _MOST_STUDIES:
        return None
    while True:
        found = optuna.create_study(storage=storage, sampler=sampler, direction="maximize")
        if found._study_id >= wanted:  # noqa: SLF001  Optuna has no other name
            return found
