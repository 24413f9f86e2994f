"""Finished trials of a study as scikit-learn's ``cv_results_``."""

from __future__ import annotations

import numpy as np
import optuna
from scipy.stats import rankdata

__all__ = ["STANDARD_ERROR", "trial_results"]

#: Attribute of a trial that holds the standard error of its value.
STANDARD_ERROR = "standard_error"


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
    names = sorted({name for trial in done for name in trial.params})
    score = np.array([np.nan if trial.value is None else trial.value for trial in done])
    error = [trial.user_attrs.get(STANDARD_ERROR, np.nan) for trial in done]
    params = np.empty(len(done), dtype=object)
    params[:] = [dict(trial.params) for trial in done]
    return {
        "params": params,
        **{f"param_{name}": _column([trial.params for trial in done], name) for name in names},
        "mean_test_score": score,
        "se_test_score": np.array(error, dtype=float),
        "rank_test_score": rankdata(np.nan_to_num(-score, nan=np.inf), "min").astype(np.int32),
    }


def _column(params: list[dict], name: str) -> np.ma.MaskedArray:
    """Values of one parameter, as numbers where all of them are."""
    kinds = {type(drawn[name]) for drawn in params if name in drawn}
    dtype = float if kinds == {float} else int if kinds == {int} else object
    column = np.ma.masked_all(len(params), dtype=dtype)
    for i, drawn in enumerate(params):
        if name in drawn:
            column[i] = drawn[name]
    return column
