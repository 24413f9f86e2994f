"""The engines behind one function: which one runs, in what chunks, and what is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import sklearn
import skorch
import torch

from influencekit.training._cache import OutputCache
from influencekit.training._diverged import DivergedRuns
from influencekit.training._fingerprint import fingerprint
from influencekit.training.estimator._rows import count_rows
from influencekit.training.subsets._joblib import Job, run_jobs
from influencekit.training.subsets._stacked import StackedRetrainer
from influencekit.utils import progress

__all__ = ["ENGINES", "evaluate_runs"]

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
) -> np.ndarray:
    """Train once for each (rows, seed) and evaluate at the job's queries.

    Rows may be any subset of any size: all rows is the model itself, all but one is
    leave-one-out.

    Parameters
    ----------
    job : Job
    runs : list of (ndarray of int, int)
    engine : {"auto", "stacked", "joblib"}, default="auto"
    cache_dir : path-like, default=None
    n_jobs : int, default=None
    verbose : int, default=0
    on_nan : {"raise", "keep"}, default="raise"
        "raise" stops at the first chunk with an output that is not finite and does not store it;
        "keep" makes such outputs NaN.
    n_repeats : int, default=1
        Runs of one subset, which follow one another.

    Returns
    -------
    ndarray of shape (n_runs, n_query), float64

    Raises
    ------
    DivergedRuns
        If an output is not finite, unless these are kept.
    """
    stacked = _stacked_engine(job, runs, engine)
    if stacked is None:
        chunks = [np.array([i]) for i in range(len(runs))]
    else:
        chunks = stacked.chunks([rows for rows, _ in runs])
    cache = _open_cache(job, stacked is not None, cache_dir)
    keys = [_chunk_key([runs[i] for i in chunk]) for chunk in chunks] if cache else []
    outputs = np.full((len(runs), count_rows(job.X_query)), np.nan)
    missing = []
    for c, chunk in enumerate(chunks):
        stored = cache.load(keys[c], outputs[chunk].shape) if cache else None
        if stored is None or (on_nan == "raise" and not np.isfinite(stored).all()):
            missing.append(c)
        else:
            outputs[chunk] = stored
    with progress(None, "retraining", verbose, total=len(runs), unit="model") as bar:
        bar.update(len(runs) - sum(len(chunks[c]) for c in missing))
        for c, values in _compute(job, stacked, runs, [(c, chunks[c]) for c in missing], n_jobs):
            if on_nan == "raise":
                _refuse_diverged(values, chunks[c], runs, n_repeats, cache is not None)
            outputs[chunks[c]] = values = np.where(np.isfinite(values), values, np.nan)
            if cache:
                cache.store(keys[c], values)
            bar.update(len(chunks[c]))
    return outputs


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
    """The stacked engine if it is wanted and able, else None."""
    if engine == "joblib" or job.retrain is not None:
        return None
    stacked = StackedRetrainer(job.estimator, job.X, job.y, job.X_query, job.y_query, job.output)
    reason = stacked.reason or stacked.probe(min(len(rows) for rows, _ in runs))
    if reason is None:
        return stacked
    if engine == "stacked":
        raise ValueError(
            f"engine='stacked' cannot train this model: {reason}. "
            "Use engine='joblib', or 'auto', which stacks where it can."
        )
    return None


def _compute(
    job: Job, stacked: StackedRetrainer | None, runs: Runs, chunks: list, n_jobs: int | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Outputs of each missing chunk as they are done."""
    if stacked is None:
        todo = [(c, int(chunk[0])) for c, chunk in chunks]
        for position, values in run_jobs(job, [runs[i] for _, i in todo], n_jobs):
            yield todo[position][0], values[None]
        return
    for c, chunk in chunks:
        rows, seeds = zip(*(runs[i] for i in chunk), strict=True)
        yield c, stacked.run(rows, seeds)


def _open_cache(job: Job, stacked: bool, cache_dir: Any) -> OutputCache | None:
    if cache_dir is None:
        return None
    what = (job.estimator, job.retrain, job.X, job.y, job.X_query, job.y_query, job.output)
    versions = (torch.__version__, sklearn.__version__, skorch.__version__)
    key = fingerprint("influencekit-2", "stacked" if stacked else "joblib", versions, *what)
    return OutputCache(cache_dir, key)


def _chunk_key(runs: Runs) -> str:
    return fingerprint([(rows, seed) for rows, seed in runs])
