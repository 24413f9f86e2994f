"""A limit of wall-clock time on one ground truth."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class OverLimit(BaseException):
    """The time is over; no ``except Exception`` of a method stops it."""


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Raise OverLimit in the code below once the time is over; None is no limit."""
    if seconds is None:
        yield
        return

    def stop(_number, _frame):
        raise OverLimit(f"over the limit: not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
