"""Many calls through joblib, whose lost workers do not lose the work."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import joblib
import torch
from threadpoolctl import threadpool_limits

from influencekit.exceptions import LostWorkersError

__all__ = ["in_parallel", "one_thread", "shared_out"]

#: Rounds without one finished item after which the work is given up.
_ROUNDS = 3
#: What the backends' errors say if a call cannot be sent; trying again would not help.
_SENDING = re.compile("pickl|serializ", re.IGNORECASE)


def in_parallel(
    function: Callable[..., Any], items: Sequence[Any], n_jobs: int | None, **shared: Any
) -> Iterator[tuple[int, Any]]:
    """``function(item, **shared)`` of all items, each as soon as it is done.

    An item whose worker was killed is done again.

    Parameters
    ----------
    function : callable
        Found by other processes under its name.
    items : sequence
        Small ones are sent; a callable item makes what is sent when its turn comes.
    n_jobs : int or None
        As in joblib; :func:`joblib.parallel_config` sets the backend.
    **shared : object
        Arguments that are the same for all items.

    Yields
    ------
    position : int
    found : object

    Raises
    ------
    LostWorkersError
        If workers or their scheduler are lost again and again without one finished item.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs: got 0; accepted are an int but 0, as in joblib, and None.")
    missing, rounds = dict(enumerate(items)), 0
    while missing:
        before, lost = len(missing), None
        try:
            for position, found in _once(function, dict(missing), n_jobs, shared):
                del missing[position]
                yield position, found
        except _Lost as error:
            lost = error.__cause__
        rounds = rounds + 1 if len(missing) == before else 0
        if missing and rounds == _ROUNDS:
            raise LostWorkersError(
                f"n_jobs: {len(missing):,} of {len(items):,} slices are not done: workers ended, "
                f"or their scheduler cannot be reached ({type(lost).__name__}: {lost}). What is "
                f"done stays where it was written. See that workers have the memory, start "
                f"them again, and call again: the same call goes on."
            ) from lost


def shared_out(
    function: Callable[..., Any], items: Sequence[Any], n_jobs: int | None, **shared: Any
) -> Iterator[tuple[int, Any]]:
    """``function(item, **shared)`` of all items: by workers, if there are any, else here in order.

    Here it is called with all threads that torch has; by workers with one.

    Parameters
    ----------
    function, items, n_jobs, **shared
        As for :func:`in_parallel`.

    Yields
    ------
    position : int
    found : object
    """
    if len(items) > 1 and joblib.effective_n_jobs(n_jobs) > 1:
        yield from in_parallel(function, items, n_jobs, **shared)
        return
    for position, item in enumerate(items):
        yield position, function(item, **shared)


class _Lost(Exception):
    """The backend failed, and not one of the calls."""


def _once(
    function: Any, missing: dict[int, Any], n_jobs: int | None, shared: Any
) -> Iterator[tuple[int, Any]]:
    calls = (joblib.delayed(_told)(function, i, *made, shared) for i, made in _made(missing))
    try:
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:  # a backend that cannot stream (multiprocessing)
        parallel = joblib.Parallel(n_jobs=n_jobs)
    results = None
    while True:
        try:
            results = iter(parallel(calls)) if results is None else results
            told = next(results, None)
        except Exception as error:
            if _SENDING.search(f"{type(error).__name__} {error}"):
                raise
            raise _Lost from error
        if told is None:
            return
        position, failed, found = told
        if failed is not None:
            raise failed
        yield position, found


def _made(missing: dict[int, Any]) -> Iterator[tuple[int, tuple[Any, Exception | None]]]:
    """Items as they are sent, or why one could not be made."""
    for i, item in missing.items():
        try:
            yield i, (item() if callable(item) else item, None)
        except Exception as error:
            yield i, (None, error)


def _told(
    function: Any, position: int, item: Any, failed: Any, shared: Any
) -> tuple[int, Exception | None, Any]:
    """What came out, or the error as a value, so that others are known to be the backend's."""
    try:
        if failed is not None:
            return position, failed, None
        # a worker does its slices alone
        with joblib.parallel_config(backend="sequential"), one_thread():
            return position, None, function(item, **shared)
    except Exception as error:
        return position, error, None


_LOCK = threading.Lock()
_INSIDE: list[Any] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread of torch and BLAS, so that bits do not depend on their number.

    The numbers of threads belong to the process: the last one that leaves puts them back.
    """
    with _LOCK:
        if not _INSIDE:
            _INSIDE.extend([torch.get_num_threads(), threadpool_limits(1)])
        _INSIDE.append(None)
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE.pop()
            if len(_INSIDE) == 2:
                threads, limits = _INSIDE
                _INSIDE.clear()
                limits.restore_original_limits()
                torch.set_num_threads(threads)
