"""Evaluation of cells that share a fit: one factorization, every damping, every ensemble size."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone

from influencekit.damping._grid import damping_name
from influencekit.metrics._lds import PreparedOutputs
from influencekit.selection._scorer import SubsetPredictor, common_damping
from influencekit.training._cache import OutputCache
from influencekit.utils.validation import validate_parameters

__all__ = ["N_FACTS", "CellJob", "CellResult", "Problem", "run_group", "unpack"]

#: How many numbers come before the queries' correlations in a stored cell.
N_FACTS = 3


@dataclass(frozen=True)
class Problem:
    """What every cell needs, in addition to attributor and models.

    Parameters
    ----------
    train : tuple of (X, y)
        As the user gave them.
    given : dict
        What else ``fit`` is given: ``sample_weight`` and ``X_fit``.
    queries : tuple of (X, y)
        As the user gave them.
    masks : ndarray of bool of shape (n_subsets, n_train)
    truth : PreparedOutputs
    cache : OutputCache or None
    """

    train: tuple
    given: dict[str, Any]
    queries: tuple
    masks: np.ndarray
    truth: PreparedOutputs
    cache: OutputCache | None


@dataclass(frozen=True)
class CellJob:
    """One cell to compute.

    Parameters
    ----------
    position : int
        Row of the results.
    attributor : attributor
        Unfitted, with the cell's parameters.
    n_models : int
    key : str or None
        Name in the cache.
    """

    position: int
    attributor: Any
    n_models: int
    key: str | None


@dataclass
class CellResult:
    """Result of a cell.

    Parameters
    ----------
    position : int
    per_query : ndarray of shape (n_query,)
        Correlations, NaN if undefined.
    damping, xi, seconds : float
    error : str
        Error message; empty unless the cell failed.
    """

    position: int
    per_query: np.ndarray = field(repr=False)
    damping: float = np.nan
    xi: float = np.nan
    seconds: float = np.nan
    error: str = ""


def run_group(jobs: list[CellJob], models: Any, splits: bool, problem: Problem) -> list[CellResult]:
    """Evaluate cells that differ only in damping and number of models.

    Parameters
    ----------
    jobs : list of CellJob
    models : Task, or TaskList of as many models as any cell asks for
    splits : bool
        Whether cells use the first ``n_models`` of the models.
    problem : Problem

    Returns
    -------
    list of CellResult
        The results; finished cells are in the cache, and failed cells have an error.
    """
    results, valid = [], []
    for job in jobs:
        try:
            validate_parameters(job.attributor)
            valid.append(job)
        except ValueError as error:
            results.append(_failure(job, error, 0.0, problem))
    whole = None
    for n_models in sorted({job.n_models for job in valid}, reverse=True):
        some = [job for job in valid if job.n_models == n_models]
        start = perf_counter()
        try:
            fitted = whole._first(n_models) if whole is not None and splits else None
            if fitted is None:
                own = type(models)(models[:n_models]) if splits else models
                whole = fitted = _shared_fit(some, own, problem)
            predictor = SubsetPredictor(fitted, fitted._queries(*problem.queries), problem.masks)
        except Exception as error:  # a failure of one cell must not affect the others
            results += [_failure(job, error, perf_counter() - start, problem) for job in some]
            continue
        shared = (perf_counter() - start) / len(some)
        results += list(_evaluate(some, predictor, shared, problem))
    return results


def _evaluate(
    jobs: list[CellJob], predictor: SubsetPredictor, shared: float, problem: Problem
) -> Iterator[CellResult]:
    """Cells of one fit, stored as they finish; ``shared`` is their share of its seconds."""
    for job in jobs:
        start = perf_counter()
        try:
            result = _measure(job, predictor, problem)
        except Exception as error:  # see above
            yield _failure(job, error, shared + perf_counter() - start, problem)
            continue
        result.seconds = shared + perf_counter() - start
        if problem.cache is not None and job.key is not None and not result.error:
            problem.cache.store(job.key, pack(result))
        yield result


def _measure(job: CellJob, predictor: SubsetPredictor, problem: Problem) -> CellResult:
    fitted = predictor.fitted
    damping = _damping_of(job.attributor)
    if damping is not None and not _same_damping(damping, _damping_of(fitted)):
        fitted = copy.copy(fitted).set_damping(damping)
    per_query = problem.truth.correlations(predictor(fitted))
    result = CellResult(
        job.position, per_query, damping=float(np.mean(getattr(fitted, "damping_", np.nan)))
    )
    if np.isnan(per_query).all():
        result.error = "The LDS is undefined: summed scores or outputs of every query are constant."
    used = common_damping(fitted)
    if predictor.path is not None and used is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of an empty slice is NaN
            result.xi = float(np.nanmean(predictor.path.xi([used])))
    return result


def _damping_of(attributor: Any) -> Any:
    """Damping among the parameters; None without one."""
    return attributor.get_params().get(damping_name(attributor))


def _same_damping(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def _shared_fit(jobs: list[CellJob], models: Any, problem: Problem) -> Any:
    """Fit at the largest damping; if that fails, at the next one, until one works."""
    candidates = sorted(jobs, key=_safety, reverse=True)[:2]
    for job in candidates:
        try:
            return clone(job.attributor).fit(models, *problem.train, **problem.given)
        except Exception:
            if job is candidates[-1]:
                raise
    return None


def _safety(job: CellJob) -> float:
    """Damping of a cell; "auto" comes last, because it is costly and may fail by itself."""
    damping = _damping_of(job.attributor)
    return float(damping) if isinstance(damping, (int, float)) else -1.0


def _failure(job: CellJob, error: Exception, seconds: float, problem: Problem) -> CellResult:
    text = f"{type(error).__name__}: {error}"
    nothing = np.full(problem.truth.shape[0], np.nan)
    return CellResult(job.position, nothing, seconds=seconds, error=text)


def pack(result: CellResult) -> np.ndarray:
    """A finished cell as one row of numbers (1, 3 + n_query)."""
    facts = [result.damping, result.xi, result.seconds]
    return np.concatenate([facts, result.per_query])[None]


def unpack(position: int, row: np.ndarray) -> CellResult:
    """Read the output of :func:`pack`."""
    damping, xi, seconds = (float(value) for value in row[0, :N_FACTS])
    return CellResult(position, row[0, N_FACTS:], damping, xi, seconds)
