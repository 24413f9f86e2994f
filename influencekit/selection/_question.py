"""What makes the trials of two searches comparable, as fingerprints for other processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from torch import nn

from influencekit.damping._grid import damping_name
from influencekit.data import Examples, ExamplesList, each
from influencekit.models import Task, TaskList
from influencekit.training import SubsetOutputs
from influencekit.training._fingerprint import fingerprint

__all__ = ["Part", "question"]

#: Examples read at a time: part of the fingerprint, so it never changes.
_BATCH = 64
#: Parameters that do not change scores.
_WITHOUT_EFFECT = {"batch_size", "cache_dir", "n_jobs", "verbose"}
#: Characters of a description in a message.
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
    """Fingerprint everything that a trial's value depends on, apart from the parameters it drew.

    Parameters
    ----------
    truth : SubsetOutputs
    queries, train : Examples or ExamplesList
    task : Task or TaskList
    attributor : attributor
        As the user gave it.
    space : dict of str to optuna distribution, or None
        As the user gave it; None follows from the other parts.
    metric : str

    Returns
    -------
    dict of str to dict
        For each part ``{"fingerprint": ..., "is": a description}``.

    Raises
    ------
    ValueError
        If a part has no stable description.
    """
    searched = [damping_name(attributor)] if space is None else list(space)
    n_subsets, n_repeats, n_queries = truth.outputs.shape
    parts = {
        "ground truth": (
            f"{truth.output!r} of {n_subsets:,} subsets x {n_repeats:,} at {n_queries:,} queries",
            (truth.masks, truth.outputs, truth.output),
        ),
        "queries": (f"{queries.n_examples:,} examples", _contents(queries)),
        "training data": (f"{train.n_examples:,} examples", _contents(train)),
        "model": (repr(task), [_model(one) for one in each(task)]),
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
            "search could not tell whether the stored trials are comparable. Make it picklable, or "
            "leave storage out."
        ) from error
    text = " ".join(text.split())
    return {"fingerprint": found, "is": text if len(text) <= _LONGEST else text[:_LONGEST] + "..."}


def _contents(examples: Examples | ExamplesList) -> list[str]:
    """Fingerprints of inputs and targets: one, or more where models see different inputs."""
    return list(dict.fromkeys(_content(one) for one in each(examples)))


def _content(examples: Examples) -> str:
    """Fingerprint of inputs and targets, a few examples in memory at a time."""
    batches = examples.batches(_BATCH)
    return fingerprint([fingerprint(batch.inputs, batch.targets) for batch in batches])


def _model(task: Task) -> list:
    """Weights, code and settings of a model, and how its objective is read."""
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


def _settings(part: Any) -> tuple:
    """Class and public attributes of a layer or a loss: numbers, functions, nested losses."""
    kept = {k: v for k, v in vars(part).items() if not k.startswith("_")}
    found = {k: _setting(v) for k, v in kept.items()}
    return _class(part), {k: v for k, v in found.items() if v is not None}


def _setting(value: Any) -> Any:
    """An attribute as it counts; None where it has no stable description."""
    if isinstance(value, nn.Module):
        return _settings(value)
    try:
        return fingerprint(value)
    except ValueError:  # what a forward pass has left behind, say
        return None


def _parameters(attributor: Any, searched: list[str]) -> dict[str, Any]:
    """Class and parameters of an attributor and of what it holds, apart from the searched ones."""
    found = {"": _class(attributor)}
    for name, value in attributor.get_params(deep=True).items():
        chosen = any(name == one or name.startswith(f"{one}__") for one in searched)
        if not chosen and name.split("__")[-1] not in _WITHOUT_EFFECT:
            holds = hasattr(value, "get_params") and not isinstance(value, type)
            found[name] = _class(value) if holds else value
    return found


def _class(instance: Any) -> Any:
    """The library's own classes by name; others by their source as well."""
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
