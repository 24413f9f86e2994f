"""The engines behind one function: which one runs, with which chunks, and what is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import sklearn
import skorch
import torch
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping

from influencekit.models._task import Task, as_task
from influencekit.training._behavior import net_behavior
from influencekit.training._cache import OutputCache
from influencekit.training._diverged import DivergedRuns
from influencekit.training._fingerprint import fingerprint
from influencekit.training._randomness import seeded
from influencekit.training.estimator._recipe import device_of, fresh_copy, weighted_fit
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.training.stack._tasks import model_outputs
from influencekit.training.subsets._recorded_run import (
    Run,
    add_recorder,
    arrays_of,
    recorded,
    runs_of,
)
from influencekit.training.subsets._stacked import StackedRetrainer
from influencekit.utils._long_work import progress
from influencekit.utils._parallel import shared_out

__all__ = ["ENGINES", "Job", "evaluate_runs"]


#: Number of chunks at least, where finished ones are stored: a kill loses one of them.
_CHUNKS = 10
#: Bytes of a file of the cache without its numbers.
_FILE_BYTES = 1000
#: Messages of scikit-learn's SGD and MLP estimators when training diverges.
_SKLEARN_DIVERGED = ("Floating-point under-/overflow occurred", "non-finite parameter weights")


@dataclass
class Job:
    """Everything that a worker needs except rows and seed; it is sent to the workers.

    Parameters
    ----------
    estimator : estimator or None
        Estimator that is cloned and fitted; None if ``retrain`` is given.
    retrain : callable or None
        ``retrain(X_subset, y_subset, seed) -> fitted model``.
    X, y, X_query, y_query : array-like
        Data as the estimator takes them.
    output : str or callable
    sample_weight : ndarray of shape (n_train,) or None
    record : {"checkpoints", "trajectory"} or None
        What is recorded of each training.
    """

    estimator: Any
    retrain: Callable | None
    X: Any
    y: Any
    X_query: Any
    y_query: Any
    output: Any
    sample_weight: Any = None
    record: str | None = None


def run_jobs(
    job: Job, runs: list[tuple[np.ndarray, int]], n_jobs: int | None
) -> Iterator[tuple[int, np.ndarray, Run | None]]:
    """Train and evaluate, yielding each run's outputs as soon as it is done.

    Parameters
    ----------
    job : Job
    runs : list of (rows, seed)
    n_jobs : int or None
        As in joblib; :func:`joblib.parallel_config` sets the backend.

    Yields
    ------
    position : int
        Position of the run.
    outputs : ndarray of shape (n_query,), float64
    run : Run or None
        What was recorded.
    """
    # the job's arrays are separate arguments, so that a cluster sends each of them once
    parts = vars(job)
    calls = (joblib.delayed(run_one)(i, rows, seed, **parts) for i, (rows, seed) in enumerate(runs))
    try:
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:  # a backend that cannot stream (multiprocessing)
        parallel = joblib.Parallel(n_jobs=n_jobs)
    yield from parallel(calls)


def run_one(
    position: int, rows: np.ndarray, seed: int, **parts: Any
) -> tuple[int, np.ndarray, Run | None]:
    """Train one model on its rows and evaluate it at the queries; NaN if training diverged."""
    job = Job(**parts)
    X, y = take_rows(job.X, rows), take_rows(job.y, rows)
    seeding = nullcontext() if _seeds_itself(job) else seeded(seed, device_of(job.estimator))
    with seeding:
        if job.retrain is not None:
            model = job.retrain(X, y, seed)
            model = as_task(model) if isinstance(model, torch.nn.Module) else model
            if not isinstance(model, Task) and not hasattr(model, "predict"):
                raise TypeError(
                    f"retrain: the function returned {type(model).__name__}; accepted is a fitted "
                    "model."
                )
        else:
            weights = take_rows(job.sample_weight, rows)
            with _naming_few_rows(job, len(rows)), _naming_missing_classes(job, y):
                copy = fresh_copy(job.estimator, seed)
                if job.record is not None:
                    add_recorder(copy, job.record)
                model = _fitted(copy, X, y, weights)
    if model is None:
        return position, np.full(count_rows(job.X_query), np.nan), None
    know_all_classes(model, job.y)
    run = None if job.record is None else recorded(model, rows, count_rows(job.X))
    with _naming_few_rows(job, len(rows)):
        outputs = model_outputs(model, job.X_query, job.y_query, job.output)
    return position, outputs, run


def _fitted(model: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """The fitted model; None if scikit-learn itself reports that training diverged."""
    try:
        model = weighted_fit(model, X, y, sample_weight)
    except ValueError as error:
        if any(text in str(error) for text in _SKLEARN_DIVERGED):
            return None
        raise
    _check_finished(model)
    return model


@contextmanager
def _naming_few_rows(job: Job, n_rows: int) -> Iterator[None]:
    """Say of an error from inside a model that it learned from a subset."""
    try:
        yield
    except ValueError as error:
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        own = last is None or last.tb_frame.f_globals.get("__name__", "").startswith("influencekit")
        n = count_rows(job.X)
        if job.retrain is not None or own or n_rows == n:
            raise
        raise ValueError(
            f"masks: {type(job.estimator).__name__} cannot be trained on {n_rows} of the {n} rows, "
            f"or asked after it ({error}). Take larger subsets, or other parameters of the model. "
            f"Shapley and BetaShapley need subsets of all sizes, Datamodel and Banzhaf halves."
        ) from error


@contextmanager
def _naming_missing_classes(job: Job, y_subset: Any) -> Iterator[None]:
    """Say of a classifier's error that the subset misses classes, if it does."""
    try:
        yield
    except ValueError as error:
        labels, learned = np.asarray(job.y), np.asarray(y_subset)
        missing = np.setdiff1d(labels, learned) if labels.ndim == 1 else np.empty(0)
        if not len(missing) or not is_classifier(job.estimator):
            raise
        raise ValueError(
            f"masks: a subset has no row of the classes {missing[:5].tolist()}, and the model "
            f"cannot be trained on it ({error}). Use a larger subset_fraction, or masks that hold "
            "every class."
        ) from error


def _check_finished(model: Any) -> None:
    """Refuse a half-trained net: skorch's fit catches Ctrl-C."""
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
    """Whether a callback may end training early: EarlyStopping, or an unknown callback."""
    known = type(callback).__module__.startswith(("skorch.", "influencekit."))
    return not known or isinstance(callback, EarlyStopping)


def last_step(model: Any) -> Any:
    """Last step of a Pipeline, or the model."""
    return last_step(model.steps[-1][1]) if isinstance(model, Pipeline) else model


def know_all_classes(model: Any, y: Any) -> None:
    """Keep a net's outputs for all classes, even if a class is missing in its subset."""
    net = last_step(model)
    if isinstance(net, NeuralNet) and hasattr(net, "classes_inferred_"):
        net.classes_inferred_ = np.unique(np.asarray(y))


def _seeds_itself(job: Job) -> bool:
    """Whether all randomness comes from ``random_state``, so that threads need not wait."""
    if job.retrain is not None:
        return False
    parts = [job.estimator, *job.estimator.get_params(deep=True).values()]
    estimators = [part for part in parts if hasattr(part, "fit")]
    return all(type(part).__module__.startswith("sklearn.") for part in estimators)


ENGINES = ("auto", "stacked", "joblib")

Runs = list[tuple[np.ndarray, int]]  # rows and seed of each training


def evaluate_runs(
    job: Job,
    runs: Runs,
    engine: str = "auto",
    cache_dir: str | os.PathLike | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    on_nan: str = "raise",
    n_repeats: int = 1,
) -> tuple[np.ndarray, list[Run | None]]:
    """Train once for each (rows, seed) and evaluate at the job's queries.

    Rows may be a subset of any size: all rows give the model itself, all except one leave-one-out.

    Parameters
    ----------
    job : Job
    runs : list of (ndarray of int, int)
    engine : {"auto", "stacked", "joblib"}, default="auto"
    cache_dir : path-like, default=None
    n_jobs : int, default=None
    verbose : int, default=0
    on_nan : {"raise", "keep"}, default="raise"
        "raise" stops at the first chunk with an output that is not finite, and does not store it;
        "keep" sets such outputs to NaN.
    n_repeats : int, default=1
        Number of consecutive runs for each subset.

    Returns
    -------
    outputs : ndarray of shape (n_runs, n_query), float64
    recorded : list of Run or None
        What was recorded of each run.

    Raises
    ------
    DivergedRuns
        If an output is not finite and ``on_nan="raise"``.
    """
    stacked = _stacked_engine(job, runs, engine)
    if stacked is None:
        chunks = [np.array([i]) for i in range(len(runs))]
    else:
        most = None if cache_dir is None else max(1, len(runs) // _CHUNKS)
        chunks = stacked.chunks([rows for rows, _ in runs], most)
    n_bytes = len(runs) * (8 * count_rows(job.X_query) + _FILE_BYTES)
    cache = _open_cache(job, stacked is not None, cache_dir, n_bytes)
    keys = [fingerprint([run]) for run in runs] if cache else []
    outputs = np.full((len(runs), count_rows(job.X_query)), np.nan)
    kept: list[Run | None] = [None] * len(runs)
    missing = []
    for c, chunk in enumerate(chunks):
        stored = _stored(cache, [keys[i] for i in chunk], job, outputs.shape[1]) if cache else None
        if stored is None or (on_nan == "raise" and not np.isfinite(stored[0]).all()):
            missing.append(c)
            continue
        outputs[chunk] = stored[0]
        for i, run in zip(chunk, stored[1], strict=True):
            kept[i] = run
    with progress(None, "retraining", verbose, total=len(runs), unit="model") as bar:
        bar.update(len(runs) - sum(len(chunks[c]) for c in missing))
        for c, values, found in _compute(
            job, stacked, runs, [(c, chunks[c]) for c in missing], n_jobs
        ):
            if on_nan == "raise":
                _refuse_diverged(values, chunks[c], runs, n_repeats, cache is not None)
            outputs[chunks[c]] = values = np.where(np.isfinite(values), values, np.nan)
            for i, run in zip(chunks[c], found, strict=True):
                kept[i] = run
            if cache:
                for i, row in zip(chunks[c], values, strict=True):
                    cache.store(keys[i], row[None], arrays_of([kept[i]]))
            bar.update(len(chunks[c]))
    return outputs, kept


def _stored(
    cache: OutputCache, keys: list[str], job: Job, n_query: int
) -> tuple[np.ndarray, list[Run | None]] | None:
    """Outputs of a chunk's runs and what was recorded of them; None if those of one are missing.

    The chunk is then trained as a whole, so that its models have the same company as in a call that
    was not interrupted.
    """
    values: list[np.ndarray] = []
    kept: list[Run | None] = []
    for key in keys:
        if job.record is None:
            row, more = cache.load(key, (1, n_query)), {}
        else:
            row, more = cache.load_all(key, (1, n_query)) or (None, {})
        if row is None:
            return None
        values.append(row)
        kept += runs_of(more, 1)
    return np.concatenate(values), kept


def _refuse_diverged(
    values: np.ndarray, chunk: np.ndarray, runs: Runs, n_repeats: int, kept: bool
) -> None:
    """Refuse the outputs of a chunk if some are not finite."""
    bad = [np.flatnonzero(row) for row in ~np.isfinite(values)]
    found = [
        (int(i) // n_repeats, runs[i][1], queries)
        for i, queries in sorted(zip(chunk, bad, strict=True), key=lambda pair: pair[0])
        if len(queries)
    ]
    if found:
        raise DivergedRuns(found, values.shape[1], kept=kept)


def _stacked_engine(job: Job, runs: Runs, engine: str) -> StackedRetrainer | None:
    """The stacked engine if it is requested and possible, else None."""
    if engine == "joblib" or job.retrain is not None:
        return None
    stacked = StackedRetrainer(
        job.estimator, job.X, job.y, job.X_query, job.y_query, job.output, job.record
    )
    if engine == "auto" and stacked.is_slower():
        return None
    reason = stacked.reason or stacked.probe(min(len(rows) for rows, _ in runs))
    if reason is None:
        return stacked
    if engine == "stacked":
        raise ValueError(
            f"engine='stacked' cannot train this model: {reason}. "
            "Use engine='joblib', or 'auto', which stacks if possible."
        )
    return None


def _compute(
    job: Job, stacked: StackedRetrainer | None, runs: Runs, chunks: list, n_jobs: int | None
) -> Iterator[tuple[int, np.ndarray, list[Run | None]]]:
    """Outputs of each missing chunk as they finish, and what was recorded."""
    if stacked is None:
        todo = [(c, int(chunk[0])) for c, chunk in chunks]
        for position, values, run in run_jobs(job, [runs[i] for _, i in todo], n_jobs):
            yield todo[position][0], values[None], [run]
        return
    sent = [[runs[i] for i in chunk] for _, chunk in chunks]
    for k, (values, found) in shared_out(_run_chunk, sent, n_jobs, stacked=stacked):
        yield chunks[k][0], values, found


def _run_chunk(runs: Runs, stacked: StackedRetrainer) -> tuple[np.ndarray, list[Run | None]]:
    """Train the models of one stack."""
    rows, seeds = zip(*runs, strict=True)
    return stacked.run(rows, seeds)


def _open_cache(job: Job, stacked: bool, cache_dir: Any, n_bytes: int) -> OutputCache | None:
    if cache_dir is None:
        return None
    what = [job.estimator, job.retrain, job.X, job.y, job.X_query, job.y_query, job.output]
    versions = (torch.__version__, sklearn.__version__, skorch.__version__)
    if job.sample_weight is not None:
        what.append(job.sample_weight)
    if job.record is not None:
        what.append(("record", job.record))
    what += net_behavior(job.estimator, job.X, job.y)
    key = fingerprint("influencekit-4", "stacked" if stacked else "joblib", versions, *what)
    return OutputCache(cache_dir, key, n_bytes=n_bytes)
