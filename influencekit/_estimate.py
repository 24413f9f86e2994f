"""What a fit and its queries will cost, from trials on some of the rows."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from sklearn.base import clone

from influencekit.data._examples import each
from influencekit.exceptions import collected_warnings
from influencekit.models._task import TaskList
from influencekit.utils._long_work import format_bytes
from influencekit.utils._torch import with_gradients

__all__ = [
    "Estimate",
    "Estimates",
    "as_estimate",
    "bilinear",
    "estimate_of",
    "even_rows",
    "row_law",
    "trial_cost",
]

#: A trial that takes as long as this tells the time of more rows; rows at most, and at first.
ENOUGH, MOST, FIRST = 0.4, 8192, 32
#: Queries of the trials.  Scores of few lie in memory that is used again, those of many do not.
QUERIES = (8, 64, 512)


@dataclass(frozen=True)
class Estimate:
    """What a fit and a number of queries will cost on this machine.

    Attributes
    ----------
    fit_seconds, query_seconds : float
        Of ``fit``, and of the scores of all queries.
    peak_bytes : int or None
        Memory above what is held before; None where the system does not tell, or where the trials
        were too small to need any.
    disk_bytes : int
        Size of the files that ``fit`` writes.
    n_train, n_queries : int
    tried : tuple of int
        Rows of the two trials.
    pace : float
        Seconds that passed in the trials for each second of the processor: more than 1 on a busy
        machine, less with several threads.
    """

    fit_seconds: float
    query_seconds: float
    peak_bytes: int | None
    disk_bytes: int
    n_train: int
    n_queries: int
    tried: tuple[int, int]
    pace: float = 1.0

    @property
    def seconds(self) -> float:
        """Seconds of the fit and the queries together."""
        return self.fit_seconds + self.query_seconds

    @property
    def cpu_seconds(self) -> float:
        """The same in seconds of the processor."""
        return self.seconds / self.pace

    def __str__(self) -> str:
        peak = "unknown" if self.peak_bytes is None else format_bytes(self.peak_bytes)
        return (
            f"{self.n_train:,} rows: about {_in_words(self.fit_seconds)} for fit and "
            f"{_in_words(self.query_seconds)} for {self.n_queries:,} queries, {peak} of memory, "
            f"{format_bytes(self.disk_bytes)} on disk (tried on {self.tried[0]:,} and "
            f"{self.tried[1]:,} rows)"
        )


def _in_words(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s"


class Estimates:
    """``estimate`` of every attributor."""

    @with_gradients
    def estimate(self, model: Any, X: Any, y: Any = None, *, n_queries: int = 100) -> Estimate:
        """What ``fit`` and the scores of some queries will cost, before they run.

        The method is tried on two small samples of the rows. What grows with rows and queries is
        carried on to all of them, by the law of the method: linear in the rows, or with the cube
        of their number where the curvature is decomposed in the space of the examples.

        Parameters
        ----------
        model, X, y : object
            As in ``fit``.
        n_queries : int, default=100

        Returns
        -------
        Estimate
            ``print`` it for one line.

        Raises
        ------
        ValueError
            If the method cannot be tried on some of the rows, as those that read a recorded run of
            all rows.
        """
        if not isinstance(n_queries, Integral) or isinstance(n_queries, bool) or n_queries < 1:
            raise ValueError(f"n_queries: got {n_queries!r}; accepted is an int from 1.")
        own: Any = clone(self)
        opened, _, (models, train) = _timed(lambda: own._open(model, X, y))
        with collected_warnings():  # those of trials say nothing of all rows
            found = own._estimated(_of_any_rows(models), train, int(n_queries))
        return replace(found, fit_seconds=found.fit_seconds + found.pace * opened)

    def _estimated(self, models: Any, train: Any, n_queries: int) -> Estimate:
        return estimate_of(self, models, train, n_queries)


def estimate_of(attributor: Any, models: Any, train: Any, n_queries: int) -> Estimate:
    """An estimate from trials of growing size.

    Parameters
    ----------
    attributor : attributor
        Unfitted.
    models : Task or TaskList
    train : Examples or ExamplesList
    n_queries : int

    Returns
    -------
    Estimate
    """
    n, p = train.n_examples, max(task.n_parameters for task in each(models))
    trials = _grown(lambda k: trial_cost(attributor, models, train, k, n_queries), n, p)
    fits = row_law(trials, trials[-1].cubic * p)(n)
    return as_estimate(trials, fits, n, n_queries)


def as_estimate(
    trials: list[Trial], fit_seconds: float, n: int, n_queries: int, disk_bytes: int = 0
) -> Estimate:
    """What trials say of all rows; seconds are the processor's."""
    pace = sum(t.wall for t in trials) / max(1e-9, sum(t.total for t in trials))
    seconds = bilinear([one for t in trials for one in t.answers], n, n_queries)
    peaks = [one for t in trials for one in t.peaks]
    peak = None
    if any(value for *_, value in peaks):
        peak = int(bilinear(peaks, n, n_queries, 2 if trials[-1].cubic else 1))
    sizes = (trials[0].n, trials[-1].n)
    return Estimate(pace * fit_seconds, pace * seconds, peak, disk_bytes, n, n_queries, sizes, pace)


@dataclass
class Trial:
    """Cost of one method on some rows; seconds are the processor's.

    ``answers`` and ``peaks`` are (rows, queries, value), a peak of 0 where the system does not tell
    it.  ``wall`` passed in ``total`` seconds of the processor.
    """

    n: int
    fit_seconds: float
    answers: list[tuple[int, int, float]]
    peaks: list[tuple[int, int, float]]
    wall: float
    total: float
    cubic: bool


def trial_cost(attributor: Any, models: Any, train: Any, n: int, n_queries: int) -> Trial:
    """Fit an attributor to some rows, and ask it for the scores of more and more queries.

    Parameters
    ----------
    attributor : attributor
        Unfitted.
    models : Task or TaskList
    train : Examples or ExamplesList
    n, n_queries : int

    Returns
    -------
    Trial
    """
    some = train.take(even_rows(train.n_examples, n)).gathered()
    _release()
    held = _memory("VmRSS") or 0
    fits: list[list[float]] = []
    asked: list[list[float]] = []
    answers: list[tuple[int, int, float]] = []
    peaks: list[tuple[int, int, float]] = []
    try:
        for q in sorted({min(q, n_queries, n) for q in QUERIES}):
            if answers and answers[-1][-1] > ENOUGH:
                break
            if not fits or fits[-1][0] < ENOUGH:  # the first query may keep what others use
                *cost, fitted = _timed(lambda: clone(attributor).fit(models, some))
                fits.append(cost)
            *cost, _ = _timed(partial(fitted.score, some.take(np.arange(q))))
            asked.append(cost)
            answers.append((n, q, cost[0]))
            peaks.append((n, q, float((_memory("VmHWM") or 0) - held)))
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise ValueError(
            f"estimate: {type(attributor).__name__} cannot be tried on {n:,} of the rows: {error}"
        ) from error
    kinds = [type(getattr(one, "curvature", one)).__name__ for one in fitted.fitted_]
    cubic = "SampleSpectrum" in kinds
    total, wall = np.sum([*fits, *asked], axis=0).tolist()
    fit_seconds = float(np.mean([seconds for seconds, _ in fits]))
    return Trial(n, fit_seconds, answers, peaks, wall, total, cubic)


def even_rows(n: int, some: int) -> np.ndarray:
    """Positions of some of n rows, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, some)).astype(np.int64))


def _of_any_rows(models: Any) -> Any:
    """The same models, which say of all rows that they learned from them."""
    tasks = [replace(task, training_rows=None) for task in each(models)]
    return TaskList(tasks) if isinstance(models, TaskList) else tasks[0]


def _grown(trial: Callable[[int], Trial], n: int, p: int) -> list[Trial]:
    """Two trials with enough rows for their time to count.

    Where there are more rows than parameters, so has the last one, if it can.
    """
    size, found = min(n, FIRST), []
    while True:
        found.append(trial(size))
        small = size <= p < n and p <= MOST // 2
        if size == n or size >= MOST or (found[-1].fit_seconds > ENOUGH and not small):
            break
        size = min(n, MOST, 4 * size)
    if len(found) == 1 and n > found[0].n:
        found.append(trial(min(n, 2 * found[0].n)))
    return found[-2:]


def row_law(trials: Sequence[Trial], p: int = 0) -> Callable[[int], float]:
    """Seconds of a fit by rows: constant and linear, or n²p + 5n³ for a decomposition."""
    sizes, costs = [t.n for t in trials], [t.fit_seconds for t in trials]

    def work(n: int) -> float:
        return float(n) ** 2 * p + 5 * float(n) ** 3 if p else float(n)

    if len(sizes) == 1:
        return lambda n: costs[0] * work(n) / work(sizes[0])
    top = work(sizes[-1])
    found = nnls(np.array([[1.0, work(k) / top] for k in sizes]), np.array(costs))[0]
    return lambda n: float(found[0] + found[1] * work(n) / top)


def bilinear(trials: list[tuple[int, int, float]], n: int, q: int, power: int = 1) -> float:
    """A cost at n rows and q queries, from a constant, rows, queries and their product."""
    rows, queries, costs = (np.array(column, dtype=float) for column in zip(*trials, strict=True))
    top, most = rows.max(), queries.max()

    def terms(rows: Any, queries: Any) -> np.ndarray:
        a, b = (rows / top) ** power, queries / most
        return np.stack([np.ones_like(a), a, b, rows / top * b], axis=-1)

    found = nnls(terms(rows, queries), np.maximum(costs, 0.0))[0]
    return float(terms(np.float64(n), np.float64(q)) @ found)


def _timed(job: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of the processor and of the clock, and the result."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = job()
    return time.process_time() - cpu, time.perf_counter() - wall, found


def _memory(key: str) -> int | None:
    """Bytes held now ("VmRSS") or at most since the peak was forgotten ("VmHWM"); Linux only."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), None)


def _release() -> None:
    """Give back memory that is free, and forget the peak so far, where the system can."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return
