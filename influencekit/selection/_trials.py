"""Finished trials of a study as scikit-learn's ``cv_results_``."""

from __future__ import annotations

import numpy as np
import optuna
from scipy.stats import rankdata

__all__ = ["STANDARD_ERROR", "UNDAMPED", "drawn", "trial_results"]

#: Attribute of a trial that holds the standard error of its value.
STANDARD_ERROR = "standard_error"
#: Attribute of a trial without damping, which has no place on a logarithmic scale: the name of
#: the parameter that is 0.
UNDAMPED = "undamped"


def drawn(trial: optuna.trial.FrozenTrial) -> dict:
    """Parameters of a trial, with the damping where it is 0."""
    undamped = trial.user_attrs.get(UNDAMPED)
    return dict(trial.params) if undamped is None else {**trial.params, undamped: 0.0}


def trial_results(trials: list[optuna.trial.FrozenTrial]) -> dict[str, np.ndarray]:
    """One entry for each finished trial, in order; a trial without a value has the score NaN.

    Parameters
    ----------
    trials : list of optuna FrozenTrial

    Returns
    -------
    dict of str to ndarray of shape (n_trials,)
        ``params``, ``param_NAME`` (masked where a trial did not draw it), ``mean_test_score``,
        ``se_test_score``, ``rank_test_score`` (1 is best, undefined ones share the last).
    """
    done = [trial for trial in trials if trial.state.is_finished()]
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


def _column(params: list[dict], name: str) -> np.ma.MaskedArray:
    """Values of one parameter, as numbers where all of them are."""
    kinds = {type(own[name]) for own in params if name in own}
    dtype = float if kinds == {float} else int if kinds == {int} else object
    column = np.ma.masked_all(len(params), dtype=dtype)
    for i, own in enumerate(params):
        if name in own:
            column[i] = own[name]
    return column
