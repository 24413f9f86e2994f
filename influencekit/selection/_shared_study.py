"""Optuna studies shared by searches: opened by one process at a time, only for equal searches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import TrialState
from torch import nn

from influencekit.damping._grid import damping_name
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.models._task import Task, TaskList
from influencekit.selection._storage import study_lock
from influencekit.training._behavior import task_behavior
from influencekit.training._fingerprint import fingerprint
from influencekit.training.subsets._subset_outputs import SubsetOutputs

__all__ = ["open_study", "question", "quiet_optuna"]


#: Number of examples read at once: part of the fingerprint, so it must never change.
_BATCH = 64
#: Parameters that do not change scores.
_WITHOUT_EFFECT = {"batch_size", "cache_dir", "n_jobs", "verbose"}
#: Largest number of characters of a description in a message.
_LONGEST = 200

#: Fingerprint and description of one part of a search.
Part = dict[str, str]


def question(
    truth: SubsetOutputs,
    queries: Examples | ExamplesList,
    train: Examples | ExamplesList,
    task: Task | TaskList,
    attributor: Any,
    space: Mapping[str, BaseDistribution] | None,
    metric: str,
) -> dict[str, Part]:
    """Fingerprint everything that a trial's value depends on, except for its drawn parameters.

    Parameters
    ----------
    truth : SubsetOutputs
    queries, train : Examples or ExamplesList
    task : Task or TaskList
    attributor : attributor
        As the user gave it.
    space : dict of str to optuna distribution, or None
        As the user gave it; None is determined by the other parts.
    metric : str

    Returns
    -------
    dict of str to dict
        For each part ``{"fingerprint": ..., "is": a description}``.

    Raises
    ------
    ValueError
        If a part does not have a stable description.
    """
    searched = [damping_name(attributor)] if space is None else list(space)
    n_subsets, n_repeats, n_queries = truth.outputs.shape
    parts = {
        "ground truth": (
            f"{truth.output!r} of {n_subsets:,} subsets x {n_repeats:,} at {n_queries:,} queries",
            (truth.masks, truth.outputs, truth.output),
        ),
        "queries": (f"{queries.n_examples:,} examples", _contents(queries)),
        "training data": (f"{train.n_examples:,} examples", _weighted(train)),
        "model": (repr(task), [*map(_model, each(task)), *_behaviors(task, train)]),
        "attributor": (repr(attributor), _parameters(attributor, searched)),
        "search space": (repr(space), _distributions(space)),
        "metric": (metric, metric),
    }
    return {name: _part(name, *part) for name, part in parts.items()}


def _part(name: str, text: str, content: Any) -> Part:
    try:
        found = fingerprint(content)
    except ValueError as error:
        raise ValueError(
            f"storage: the {name} of the search cannot be fingerprinted ({error}), so a later "
            f"search could not check whether the stored trials are comparable. Make it picklable, "
            f"or "
            "leave storage out."
        ) from error
    text = " ".join(text.split())
    return {"fingerprint": found, "is": text if len(text) <= _LONGEST else text[:_LONGEST] + "..."}


def _contents(examples: Examples | ExamplesList) -> list[str]:
    """Fingerprints of inputs and targets: one, or several if models see different inputs."""
    return list(dict.fromkeys(_content(one) for one in each(examples)))


def _weighted(examples: Examples | ExamplesList) -> list:
    """Contents, and weights if there are any."""
    weights = each(examples)[0].weights
    return _contents(examples) if weights is None else [*_contents(examples), weights]


def _content(examples: Examples) -> str:
    """Fingerprint of inputs and targets, with few examples in memory at once."""
    batches = examples.batches(_BATCH)
    return fingerprint([fingerprint(batch.inputs, batch.targets) for batch in batches])


def _model(task: Task) -> list:
    """Weights, code and settings of a model, and its objective."""
    return [
        repr(task.module),
        [(name, _settings(part)) for name, part in task.module.named_modules()],
        dict(task.module.state_dict()),
        list(task.parameters),
        _settings(task.loss),
        dict(task.penalty),
        task.penalty_kind,
        task.class_weight,
    ]


def _behaviors(task: Task | TaskList, train: Examples | ExamplesList) -> list:
    """What each model does on a few training examples."""
    data = each(train)
    few = [next(data[min(i, len(data) - 1)].batches(_BATCH)) for i in range(len(each(task)))]
    return [
        task_behavior(one, batch.inputs, batch.targets)
        for one, batch in zip(each(task), few, strict=True)
    ]


def _settings(part: Any) -> tuple:
    """Class and public attributes of a layer or a loss: numbers, functions, nested losses."""
    kept = {k: v for k, v in vars(part).items() if not k.startswith("_")}
    found = {k: _setting(v) for k, v in kept.items()}
    return _class(part), {k: v for k, v in found.items() if v is not None}


def _setting(value: Any) -> Any:
    """An attribute for the fingerprint; None if it does not have a stable description."""
    if isinstance(value, nn.Module):
        return _settings(value)
    try:
        return fingerprint(value)
    except ValueError:  # such as a leftover of a forward pass
        return None


def _parameters(attributor: Any, searched: Sequence[str | None]) -> dict[str, Any]:
    """Class and parameters of an attributor and of those inside, without the searched ones."""
    found = {"": _class(attributor)}
    for name, value in attributor.get_params(deep=True).items():
        chosen = any(name == one or name.startswith(f"{one}__") for one in searched)
        if not chosen and name.split("__")[-1] not in _WITHOUT_EFFECT:
            holds = hasattr(value, "get_params") and not isinstance(value, type)
            found[name] = _class(value) if holds else value
    return found


def _class(instance: Any) -> Any:
    """The library's own classes by name; other classes also by source."""
    kind = type(instance)
    own = kind.__module__.split(".")[0] == "influencekit"
    return f"{kind.__module__}.{kind.__qualname__}" if own else kind


def _distributions(space: Mapping[str, BaseDistribution] | None) -> Any:
    if space is None:
        return None
    return {
        name: list(choices.choices)
        if isinstance(choices, CategoricalDistribution)
        else json.loads(distribution_to_json(choices))
        for name, choices in space.items()
    }


#: Attribute of a study: the fingerprints of its search, and the seeds of its attributor.
QUESTION = "influencekit_question"
#: Seconds to wait for SQLite's own lock.
_SQLITE_SECONDS = 120


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
        From :func:`question`; ignored if ``storage`` is None.
    seeds : dict of str to int
        Seeds of the attributor, for a new study.

    Returns
    -------
    study : optuna.Study
    seeds : dict of str to int
        The seeds used by the study's first search.

    Raises
    ------
    ValueError
        If the study was made by a different search.
    """
    if storage is None:
        study = optuna.create_study(study_name=study_name, sampler=sampler, direction="maximize")
        return study, seeds
    with study_lock(storage, study_name):
        study = _created(storage, study_name, sampler)
        return study, {**seeds, **_agree(study, asked, seeds)}


def _created(
    storage: Any, study_name: str | None, sampler: optuna.samplers.BaseSampler | None
) -> optuna.Study:
    try:
        return optuna.create_study(
            storage=_patient(storage),
            sampler=sampler,
            study_name=study_name,
            direction="maximize",
            load_if_exists=True,
        )
    except optuna.exceptions.StorageInternalError as error:
        raise ValueError(
            f"storage: the study {study_name!r} cannot be opened in it ({error.__cause__}); "
            "accepted is storage that Optuna has made completely. Give another, or a new file."
        ) from error


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Limit Optuna's log to errors inside the block; an error that ends a trial is still raised."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _patient(storage: Any) -> Any:
    """Make SQLite wait for other processes that write trials; other storages are unchanged."""
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
        f"LDSSearch: it has {len(trials):,} trials and the directions {directions}, but does not "
        f"record the data, model and attributor. Accepted is a study of the same search, or a new "
        f"one: give another study_name."
    )


def _refusal(name: str, differing: list[str], asked: dict[str, Part], stored: dict) -> str:
    found = []
    for part in differing:
        got, has = asked[part]["is"], stored.get(part, {}).get("is", "none")
        contents = "other contents" if got == has else f"got {got}; the study has {has}"
        found.append(f"{part} ({contents})")
    own_retrainings = (
        " Another random_state draws other subsets: give subset_outputs= of the first search."
        if "ground truth" in differing
        else ""
    )
    return (
        f"study_name: the study {name!r} in storage was made by a different search. What differs: "
        f"{', '.join(found)}. Accepted is a study with the same {', '.join(asked)}; "
        "n_trials, sampler and the searched parameters may differ. Give another study_name."
        f"{own_retrainings}"
    )
