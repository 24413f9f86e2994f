"""Retraining one model at a time, spread over processes, threads or a cluster by joblib."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from sklearn.pipeline import Pipeline
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping

from influencekit.training._randomness import seeded
from influencekit.training.estimator._recipe import device_of, fresh_copy
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.training.stack._outputs import model_outputs

__all__ = ["Job", "run_jobs"]

#: What scikit-learn's SGD and MLP estimators say when training diverges.
_SKLEARN_DIVERGED = ("Floating-point under-/overflow occurred", "non-finite parameter weights")


@dataclass
class Job:
    """Everything that a worker needs besides rows and seed; travels to the workers.

    Parameters
    ----------
    estimator : estimator or None
        Cloned and fitted; None where ``retrain`` is given.
    retrain : callable or None
        ``retrain(X_subset, y_subset, seed) -> fitted model``.
    X, y, X_query, y_query : array-like
        As the estimator takes them.
    output : str or callable
    """

    estimator: Any
    retrain: Callable | None
    X: Any
    y: Any
    X_query: Any
    y_query: Any
    output: Any


def run_jobs(
    job: Job, runs: list[tuple[np.ndarray, int]], n_jobs: int | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Train and evaluate, yielding each run's outputs as soon as it is done.

    Parameters
    ----------
    job : Job
    runs : list of (rows, seed)
    n_jobs : int or None
        As in joblib; the backend is that of :func:`joblib.parallel_config`.

    Yields
    ------
    position : int
        Which run.
    outputs : ndarray of shape (n_query,), float64
    """
    # the job's arrays go as arguments of their own, so that a cluster sends each of them once
    parts = vars(job)
    calls = (joblib.delayed(run_one)(i, rows, seed, **parts) for i, (rows, seed) in enumerate(runs))
    try:
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:  # a backend that cannot stream (multiprocessing)
        parallel = joblib.Parallel(n_jobs=n_jobs)
    yield from parallel(calls)


def run_one(position: int, rows: np.ndarray, seed: int, **parts: Any) -> tuple[int, np.ndarray]:
    """Train one model on its rows and evaluate it at the queries; NaN if training diverged."""
    job = Job(**parts)
    X, y = take_rows(job.X, rows), take_rows(job.y, rows)
    seeding = nullcontext() if _seeds_itself(job) else seeded(seed, device_of(job.estimator))
    with seeding:
        if job.retrain is not None:
            model = job.retrain(X, y, seed)
        else:
            model = _fitted(fresh_copy(job.estimator, seed), X, y)
    if model is None:
        return position, np.full(count_rows(job.X_query), np.nan)
    know_all_classes(model, job.y)
    return position, model_outputs(model, job.X_query, job.y_query, job.output)


def _fitted(model: Any, X: Any, y: Any) -> Any:
    """The model fitted; None where scikit-learn itself says that its training diverged."""
    try:
        model = model.fit(X, y)
    except ValueError as error:
        if any(text in str(error) for text in _SKLEARN_DIVERGED):
            return None
        raise
    _check_finished(model)
    return model


def _check_finished(model: Any) -> None:
    """Do not take a half-trained net for a result: skorch's fit swallows Ctrl-C."""
    net = last_step(model)
    if not isinstance(net, NeuralNet):
        return
    history = net.history
    done = len(history) == net.max_epochs and (
        not len(history) or "train_batch_count" in history[-1]
    )
    if not done and not any(_may_stop(callback) for _, callback in net.callbacks_):
        raise KeyboardInterrupt("training was interrupted")


def _may_stop(callback: Any) -> bool:
    """Whether a callback may end training early: EarlyStopping, or one that we do not know."""
    known = type(callback).__module__.startswith(("skorch.", "influencekit."))
    return not known or isinstance(callback, EarlyStopping)


def last_step(model: Any) -> Any:
    """Last step of a Pipeline, or the model."""
    return last_step(model.steps[-1][1]) if isinstance(model, Pipeline) else model


def know_all_classes(model: Any, y: Any) -> None:
    """A net's outputs stand for all classes, also where its subset misses one."""
    net = last_step(model)
    if isinstance(net, NeuralNet) and hasattr(net, "classes_inferred_"):
        net.classes_inferred_ = np.unique(np.asarray(y))


def _seeds_itself(job: Job) -> bool:
    """Whether all randomness comes from ``random_state``, so that threads need not queue."""
    if job.retrain is not None:
        return False
    parts = [job.estimator, *job.estimator.get_params(deep=True).values()]
    estimators = [part for part in parts if hasattr(part, "fit")]
    return all(type(part).__module__.startswith("sklearn.") for part in estimators)
