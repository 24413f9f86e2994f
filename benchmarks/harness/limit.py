"""A limit of CPU time: other work on the machine does not count."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class OverLimit(BaseException):
    """The limit is reached; no ``except Exception`` in what is stopped catches it."""


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Raise OverLimit in the code below once the process has used so many seconds of CPU time.

    None is no limit; neither has a system without timers.
    """
    if seconds is None or not hasattr(signal, "setitimer"):
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
