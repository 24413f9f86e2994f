"""The search space of LDSSearch as Optuna distributions, and its results as ``cv_results_``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from scipy.stats import rankdata

from influencekit.damping._grid import attributor_damping_range, damping_name
from influencekit.metrics._correlation import LDSResult
from influencekit.utils._suggest import did_you_mean

__all__ = [
    "SEARCH",
    "STANDARD_ERROR",
    "UNDAMPED",
    "check_space",
    "distributions",
    "draw",
    "drawn",
    "ended_itself",
    "recorded",
    "suggest",
    "trial_results",
]


def suggest(trial: optuna.Trial, name: str, choices: BaseDistribution) -> Any:
    """Let a trial choose from a distribution through Optuna's public methods."""
    if isinstance(choices, CategoricalDistribution):
        return trial.suggest_categorical(name, choices.choices)
    if isinstance(choices, IntDistribution):
        step, log = choices.step, choices.log
        return trial.suggest_int(name, choices.low, choices.high, step=step, log=log)
    if isinstance(choices, FloatDistribution):
        low, high = choices.low, choices.high
        return trial.suggest_float(name, low, high, step=choices.step, log=choices.log)
    raise TypeError(
        f"search_space: {name!r} is {choices!r}; accepted are Optuna's Categorical-, Int- and "
        "FloatDistribution, or a list of choices."
    )


def distributions(search_space: Any, fits: Any) -> dict[str, BaseDistribution]:
    """The checked search space as Optuna distributions."""
    if search_space is None:
        name = fits.damping
        instead = (
            f"Give the range to search: search_space={{{name!r}: FloatDistribution(1e-6, 10.0, "
            "log=True)}, with FloatDistribution of optuna.distributions."
        )
        ends = attributor_damping_range(fits.at({}), "search_space=None", instead)
        return {name: FloatDistribution(*ends, log=True)}
    return {name: _distribution(name, choices) for name, choices in search_space.items()}


def check_space(search_space: Any, attributor: Any) -> None:
    """Refuse a search space that does not fit an attributor, before any fit.

    Raises
    ------
    TypeError, ValueError
    """
    params = attributor.get_params()
    if search_space is None:
        if damping_name(attributor) is None:
            raise ValueError(
                f"search_space: got None, which searches 'damping', but "
                f"{type(attributor).__name__} does not have this parameter. Give a dict of "
                f"parameters and their choices; its parameters are {sorted(params)}."
            )
        return
    unknown = sorted(set(search_space) - set(params))
    if unknown or not search_space:
        raise ValueError(
            f"search_space: got {unknown or 'an empty dict'}, which does not name parameters of "
            f"{type(attributor).__name__}; accepted are {sorted(params)}."
            f"{did_you_mean(min(unknown, default=None), params)}"
        )
    fixed = [name for name in search_space if name.split("__")[-1] == "output"]
    if fixed:
        raise ValueError(
            f"search_space: {fixed[0]!r} sets the output that is measured on the retrained "
            f"models, so it cannot be chosen by that measure. Search each output separately."
        )
    for name, choices in search_space.items():
        _distribution(name, choices)


def _distribution(name: str, choices: Any) -> BaseDistribution:
    if isinstance(choices, BaseDistribution):
        return choices
    accepted = "accepted is an Optuna distribution or a non-empty list of choices"
    if isinstance(choices, tuple) and len(choices) == 2:
        raise TypeError(
            f"search_space: {name!r} got {choices!r}, which could be a range or two choices. Give "
            f"FloatDistribution({choices[0]!r}, {choices[1]!r}, log=True) of optuna.distributions, "
            f"or the list {list(choices)!r}."
        )
    if isinstance(choices, str) or not hasattr(choices, "__len__"):
        raise TypeError(f"search_space: {name!r} got {choices!r}; {accepted}.")
    if len(choices) == 0:
        raise ValueError(f"search_space: {name!r} got the empty {choices!r}; {accepted}.")
    return CategoricalDistribution(list(choices))


#: Attribute of a trial that holds the standard error of its value.
STANDARD_ERROR = "standard_error"
#: Attribute of a trial that names its search.
SEARCH = "influencekit_search"
#: Attribute of a trial with damping 0, which a logarithmic scale does not include: the name of the
#: parameter that is 0.
UNDAMPED = "undamped"
#: Attribute of a trial that was evaluated and whose LDS is undefined, which Optuna calls failed.
_UNDEFINED = "influencekit_undefined"


def drawn(trial: optuna.trial.FrozenTrial | optuna.Trial) -> dict:
    """Parameters of a trial, with the damping even if it is 0."""
    undamped = trial.user_attrs.get(UNDAMPED)
    return dict(trial.params) if undamped is None else {**trial.params, undamped: 0.0}


def draw(trial: optuna.Trial, space: Mapping[str, BaseDistribution]) -> dict:
    """Parameters of a trial that begins: those that it was told to try, or new ones."""
    return drawn(trial) or {name: suggest(trial, name, space[name]) for name in space}


def trial_results(trials: list[optuna.trial.FrozenTrial]) -> dict[str, np.ndarray]:
    """One entry for each finished trial, in order; the score of a trial without a value is NaN.

    Trials of a search that a kill or an error has ended are left out.

    Parameters
    ----------
    trials : list of optuna FrozenTrial

    Returns
    -------
    dict of str to ndarray of shape (n_trials,)
        ``params``, ``param_NAME`` (masked if a trial did not draw it), ``mean_test_score``,
        ``se_test_score``, ``rank_test_score`` (1 is best, undefined ones share the last).
    """
    done = [trial for trial in trials if trial.state.is_finished() and not _was_ended(trial)]
    found = [drawn(trial) for trial in done]
    names = sorted({name for own in found for name in own})
    score = np.array([np.nan if trial.value is None else trial.value for trial in done])
    error = [trial.user_attrs.get(STANDARD_ERROR, np.nan) for trial in done]
    params = np.empty(len(done), dtype=object)
    params[:] = found
    return {
        "params": params,
        **{f"param_{name}": _column(found, name) for name in names},
        "mean_test_score": score,
        "se_test_score": np.array(error, dtype=float),
        "rank_test_score": rankdata(np.nan_to_num(-score, nan=np.inf), "min").astype(np.int32),
    }


def recorded(trial: optuna.Trial, result: LDSResult) -> float:
    """Write down what the LDS of a trial is, and return it."""
    trial.set_user_attr(STANDARD_ERROR, result.standard_error)
    if np.isnan(result.mean):
        trial.set_user_attr(_UNDEFINED, True)
    return result.mean


def ended_itself(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial was evaluated to its end.

    One that a kill ended may have a standard error, which is written before its value.
    """
    return trial.state == TrialState.COMPLETE or trial.user_attrs.get(_UNDEFINED, False)


def _was_ended(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a kill or an error has ended a trial of a search, maybe before it drew anything."""
    failed = trial.state == TrialState.FAIL and not ended_itself(trial)
    return failed and (SEARCH in trial.user_attrs or not trial.params)


def _column(params: list[dict], name: str) -> np.ma.MaskedArray:
    """Values of one parameter, as numbers if all of them are numbers."""
    kinds = {type(own[name]) for own in params if name in own}
    dtype = float if kinds == {float} else int if kinds == {int} else object
    column = np.ma.masked_all(len(params), dtype=dtype)
    for i, own in enumerate(params):
        if name in own:
            column[i] = own[name]
    return column
