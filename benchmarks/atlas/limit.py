"""A limit of CPU time on one ground truth: other work on the machine does not count."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class OverLimit(BaseException):
    """The limit is reached; no ``except Exception`` of a method stops it."""


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Raise OverLimit in the code below once the process has used so many; None is no limit."""
    if seconds is None:
        yield
        return

    def stop(_number, _frame):
        raise OverLimit(f"not done after {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
