"""What retraining takes: refused before the first model is trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from skorch import NeuralNet

from influencekit.data._sources import check_finite
from influencekit.models._estimator_outputs import asked_as_it_is, scores_classes
from influencekit.training._diverged import check_on_nan
from influencekit.training.estimator._rows import count_rows
from influencekit.training.subsets._engines import ENGINES, Job, last_step
from influencekit.utils._arguments import (
    check_integer,
    check_number,
    check_seed,
    refuse_masked,
    warn_unused,
)
from influencekit.utils._suggest import check_choice

__all__ = ["check_arguments", "check_classes", "check_data", "check_queries", "warn_of_unused"]


def check_arguments(retraining: dict[str, Any]) -> None:
    """Check how models are to be retrained.

    Parameters
    ----------
    retraining : dict
        Arguments of :func:`retrain_on_subsets` by name, without the data.

    Raises
    ------
    ValueError
    """
    given = retraining
    for name in ("n_subsets", "n_repeats"):
        check_integer(name, given[name], 1)
    accepted = "a number between 0 and 1"
    check_number("subset_fraction", given["subset_fraction"], -np.inf, np.inf, accepted)
    check_seed(given["random_state"])
    check_on_nan(given["on_nan"])
    check_choice("engine", given["engine"], ENGINES)
    verbose = given["verbose"]
    check_integer("verbose", int(verbose) if isinstance(verbose, (bool, np.bool_)) else verbose, 0)
    _check_jobs(given["n_jobs"])
    cache_dir, retrain = given["cache_dir"], given["retrain"]
    if cache_dir is not None and not isinstance(cache_dir, (str, os.PathLike)):
        raise ValueError(f"cache_dir: got {cache_dir!r}; accepted are a path and None.")
    if cache_dir is not None and given["random_state"] is None:
        raise ValueError(
            "cache_dir: with random_state=None every call draws other subsets and seeds, so "
            "nothing stored could be found again. Set random_state to an int."
        )
    if not callable(retrain) and retrain != "auto":
        raise ValueError(
            f"retrain: got {retrain!r}; accepted are 'auto' or a callable "
            "(X_subset, y_subset, seed) -> fitted model."
        )
    if callable(retrain):
        _check_function(retrain)
    if given["engine"] == "stacked" and callable(retrain):
        raise ValueError(
            "engine: 'stacked' cannot run your own training function; "
            "use engine='joblib' or 'auto' with retrain=."
        )
    if given["engine"] == "stacked" and given["refit_transformers"]:
        raise ValueError(
            "engine: 'stacked' keeps the Pipeline's fitted transformers; "
            "use engine='joblib' or 'auto' with refit_transformers=True."
        )


def _check_function(retrain: Callable) -> None:
    """Refuse a training function that does not take (X, y, seed)."""
    try:
        signature(retrain).bind(None, None, None)
    except ValueError:  # built in, without a signature
        return
    except TypeError as error:
        raise TypeError(
            f"retrain: the function cannot be called with three arguments ({error}); accepted is "
            "retrain(X_subset, y_subset, seed) -> fitted model."
        ) from None


def _check_jobs(n_jobs: Any) -> None:
    if n_jobs is None:
        return
    if n_jobs == 0:
        raise ValueError("n_jobs: got 0; accepted are None, -1 (all cores) and ints from 1 on.")
    check_integer("n_jobs", n_jobs, -(10**6))


def check_data(X: Any, y: Any, X_query: Any, y_query: Any) -> None:
    """Refuse hidden and missing values, and another number of targets than rows.

    Raises
    ------
    ValueError
    """
    named = {"X": X, "y": y, "X_query": X_query, "y_query": y_query}
    for name, value in named.items():
        refuse_masked(name, value)
    for name in ("y", "y_query"):
        values = named[name]
        if isinstance(values, np.ndarray) and values.ndim:
            check_finite(values, name)
    if y is not None and count_rows(y) != count_rows(X):
        raise ValueError(
            f"y: got {count_rows(y):,} rows, but X has {count_rows(X):,}; they must be the same "
            "examples."
        )


def warn_of_unused(given: dict[str, Any], is_pipeline: bool) -> None:
    """Warn of arguments that have no effect beside others.

    Parameters
    ----------
    given : dict
        Arguments of :func:`retrain_on_subsets` by name, without the data.
    is_pipeline : bool
        Whether the model is a Pipeline.
    """
    if given["masks"] is not None:
        why = "because masks say what the subsets are"
        for name, usual in (("n_subsets", 50), ("subset_fraction", 0.5)):
            if given[name] not in (usual, len(given["masks"])):
                warn_unused(name, given[name], why, "leave masks out")
    if given["refit_transformers"] and not is_pipeline:
        warn_unused("refit_transformers", True, "because the model is not a Pipeline")


def check_queries(job: Job) -> None:
    """Refuse queries that do not fit the training rows, before these are learned from.

    Raises
    ------
    ValueError
    """
    n_query = count_rows(job.X_query)
    shapes = [tuple(X.shape[1:]) for X in (job.X, job.X_query) if hasattr(X, "shape")]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"X_query: its rows have shape {shapes[1]}, those of X {shapes[0]}; they must be alike."
        )
    if job.y_query is not None and count_rows(job.y_query) != n_query:
        raise ValueError(
            f"y_query: has {count_rows(job.y_query):,} rows, but X_query has {n_query:,}; they "
            "must be the same examples."
        )
    several = is_classifier(job.estimator) and np.ndim(job.y) > 1
    if several and not callable(job.output):
        raise ValueError(
            f"output: {job.output!r} is for one label for each example, but y has shape "
            f"{np.shape(job.y)}. Pass a function output(model, X, y) -> (n,)."
        )


def check_classes(estimator: Any, masks: np.ndarray, y: Any, y_query: Any, output: Any) -> None:
    """Refuse subsets that miss a class of the queries, where the model then lacks it.

    A net's outputs are there for every class; scikit-learn's classifiers know those they saw, and
    by its probabilities a class that was not seen has none.
    """
    if isinstance(last_step(estimator), NeuralNet) or not is_classifier(estimator):
        return
    labels = np.asarray(y)
    if asked_as_it_is(estimator, output) and not scores_classes(estimator, output):
        unknown = np.setdiff1d(np.asarray(y_query), labels)
        if len(unknown) and not callable(output):
            raise ValueError(
                f"y_query: holds {unknown[:5].tolist()}, which are not among the labels of y, so "
                "that no model can have learned them. Leave those queries out."
            )
        return
    if labels.ndim == 2 and labels.shape[1] > 1:
        return  # several labels per example: all outputs exist for any rows
    unknown = np.setdiff1d(np.asarray(y_query), labels)
    if len(unknown):
        raise ValueError(
            f"y_query: holds {unknown[:5].tolist()}, which are not among the labels of y "
            f"({np.unique(labels)[:5].tolist()}); accepted are those. Leave the other queries out."
        )
    for label in np.unique(np.asarray(y_query)):
        without = np.flatnonzero(~masks[:, labels == label].any(axis=1))
        if len(without):
            raise ValueError(
                f"masks: subset {without[0]} ({len(without)} in all) does not have rows of class "
                f"{label.item()!r}, which is in y_query, so the model retrained on it does not "
                f"have an output for this class. Use a larger subset_fraction, masks with every "
                f"class, or "
                "leave those queries out."
            )
