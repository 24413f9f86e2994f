"""Helpers for long work: memory limits, free memory, slices under a budget, and progress bars."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, ClassVar

import torch
import tqdm.auto
import tqdm.std

__all__ = [
    "chunks",
    "format_bytes",
    "free_memory",
    "held_memory",
    "memory_limit",
    "one_notice",
    "parse_memory",
    "progress",
    "return_freed",
]

#: Bytes that choose a method, and bytes that are held, where ``max_memory`` is None. They do not
#: depend on the machine, so that the same call takes the same route and gives the same bits.
ROOM, HELD = 2**33, 2**30

#: Seconds between lines in a log.
LOG_SECONDS = 30

#: Seconds after which silent work looks how much is left, and how much left is said.
LOOK_SECONDS, LONG_SECONDS = 5, 60
NOTICE = "%s: %s of %s after %.0f s, about %.1f min to go; verbose=1 shows the progress"
LOG = logging.getLogger("influencekit.progress")
#: Whether the call of this thread has said that it is long; None outside of calls.
_CALL = threading.local()

#: More bytes than any machine has.
_ABSURD = 10**14

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def chunks(n: int, each: int, budget: int) -> Iterator[slice]:
    """Slices of ``range(n)`` whose items together need at most a given budget.

    Parameters
    ----------
    n : int
    each : int
        Size of one item: bytes, number of entries, or 1 for slices of ``budget`` items.
    budget : int
        Largest size of a slice; an item larger than that gets its own slice.

    Yields
    ------
    slice
    """
    size = max(1, min(n, budget // max(1, each)))
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def parse_memory(max_memory: int | str | None) -> int:
    """Bytes meant by ``max_memory``, which choose the method.

    Parameters
    ----------
    max_memory : int, str or None
        Bytes, a string such as "500MB", "2GB" or "1.5GiB", or None for 8 GiB, whatever is free.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the amount cannot be read or is not positive.
    """
    if max_memory is None:
        return ROOM
    amount = -1
    if isinstance(max_memory, Integral) and not isinstance(max_memory, bool):
        amount = int(max_memory)
    elif isinstance(max_memory, str):
        found = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?I?)B?\s*", max_memory.upper())
        unit = {**_UNITS, **_BINARY}.get(found[2]) if found else None
        if found and unit and re.fullmatch(r"\d+\.?\d*|\.\d+", found[1]):
            amount = int(float(found[1]) * unit)
    if amount <= 0 or amount > _ABSURD:
        raise ValueError(
            f"max_memory: got {max_memory!r}; accepted are a positive number of bytes, up to "
            "100 TB, a string such as '500MB', '2GB' or '1.5GiB', or None, which holds at most "
            "1 GiB."
        )
    return amount


def held_memory(max_memory: int | str | None) -> int:
    """Bytes of all that may be held to save time: ``max_memory``, or 1 GiB where it is None."""
    return HELD if max_memory is None else parse_memory(max_memory)


class _Allocated(ctypes.Structure):
    """What glibc's ``mallinfo2`` tells of the heap."""

    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


def return_freed(at_least: int) -> None:
    """Give freed arrays back to the system, if the C library (glibc) keeps many of them.

    Parameters
    ----------
    at_least : int
        Bytes of freed arrays; fewer may stay.
    """
    library = _glibc()
    if library is not None and library.mallinfo2().fordblks >= at_least:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library of this process; None if it has other names for this."""
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(library, "mallinfo2") or not hasattr(library, "malloc_trim"):
        return None
    library.mallinfo2.restype = _Allocated
    return library


def memory_limit(max_memory: int | str | None, device: torch.device | None = None) -> int:
    """Bytes above which work is refused: ``max_memory``, or half of what is free on a device.

    What is free decides about nothing else.

    Parameters
    ----------
    max_memory : int, str or None
    device : torch.device, optional
        Device whose memory is meant; the main memory if None.

    Returns
    -------
    int
    """
    return free_memory(device) // 2 if max_memory is None else parse_memory(max_memory)


def free_memory(device: torch.device | None = None) -> int:
    """Free bytes on a device (for main memory: bytes available without swapping).

    Parameters
    ----------
    device : torch.device or None, default=None
        None is the main memory.

    Returns
    -------
    int
    """
    if device is not None and not torch.empty(0, device=device).is_cpu:
        backend = torch.get_device_module(device)
        if hasattr(backend, "mem_get_info"):
            return int(backend.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return min(int(fields["MemAvailable"].split()[0]) * 1024, _cgroup_room())
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 4 * 2**30


def _cgroup_room() -> int:
    """Bytes left under the control group's limit; a huge number without a limit."""
    base = "/sys/fs/cgroup/memory"
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (f"{base}/memory.limit_in_bytes", f"{base}/memory.usage_in_bytes"),
    ):
        try:
            with open(limit, encoding="ascii") as a, open(used, encoding="ascii") as b:
                return max(0, int(a.read()) - int(b.read()))
        except (OSError, ValueError):
            continue
    return 2**62


def format_bytes(n: float) -> str:
    """A readable amount of memory, for instance "1.2 GB".

    Parameters
    ----------
    n : float
        Bytes.

    Returns
    -------
    str
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def progress(items: Iterable | None, description: str, verbose: int = 0, **options: Any) -> Any:
    """Iterate over items, and show the progress if ``verbose`` is positive.

    Terminals show a bar, notebooks a widget (or a bar, without ipywidgets). If the error stream is
    a file or a pipe, a line is written every 30 seconds and at the end.  The logger
    ``influencekit.progress`` gets a line every 30 seconds in any case, at level INFO, and where
    ``verbose`` is 0, one at level WARNING for work that will take more than a minute.

    Parameters
    ----------
    items : iterable or None
        Items to iterate over; None for ``update`` and ``close`` by hand.
    description : str
        Description of the work, shown before the bar.
    verbose : int, default=0
    **options
        Further arguments of tqdm, such as ``total``, or ``leave=False`` for an inner loop, which
        then leaves no bar and no last line.

    Returns
    -------
    items : tqdm
        The same items.
    """
    if verbose <= 0:
        return _Silent(items, desc=description, **options)
    bar = _bar_class() if _redraws() else _LogLines
    return bar(items, desc=description, **options)


@contextmanager
def one_notice() -> Iterator[None]:
    """Say of all long work inside the block at most once that it is long."""
    if getattr(_CALL, "said", None) is not None:  # part of another call
        yield
        return
    _CALL.said = False
    try:
        yield
    finally:
        _CALL.said = None


def _redraws() -> bool:
    """Whether output can be overwritten, as in terminals and notebooks."""
    if tqdm.auto.notebook_tqdm is not tqdm.std.tqdm:
        return True  # ipywidgets are installed
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


class _Logged:
    """Also writes a line for loggers now and then."""

    desc: str
    n: Any
    total: Any
    _logged = 0.0

    def _log(self, start: float) -> None:
        now = time.monotonic()
        if now - max(start, self._logged) >= LOG_SECONDS:
            self._logged = now
            LOG.info("%s: %s of %s after %.0f s", self.desc, self.n, self.total, now - start)


class _Silent(_Logged, tqdm.std.tqdm):
    """No bar, but a notice if the work turns out to be long."""

    monitor_interval = 0

    def __init__(self, items: Iterable | None = None, desc: str = "", **options: Any):
        super().__init__(items, **{**options, "disable": True})
        self.desc, self._start, self._said = desc, time.monotonic(), False

    def __iter__(self) -> Iterator[Any]:
        for item in self.iterable:
            yield item
            self.update(1)

    def update(self, n: float | None = 1) -> bool | None:
        self.n += n
        passed = time.monotonic() - self._start
        if passed >= LOOK_SECONDS:
            self._log(self._start)
            self._notice(passed)
        return None

    def _notice(self, passed: float) -> None:
        if self._said or not self.total or not 0 < self.n < self.total:
            return
        left = passed * (self.total - self.n) / self.n
        if left > LONG_SECONDS:
            self._said, said = True, getattr(_CALL, "said", None)
            if not said:
                LOG.warning(NOTICE, self.desc, self.n, self.total, passed, left / 60)
            if said is not None:
                _CALL.said = True


def _bar_class() -> type:
    """The bar of terminals or notebooks, which also writes lines for loggers."""

    class Bar(_Logged, tqdm.auto.tqdm):
        def display(self, *given: Any, **options: Any) -> Any:
            self._log(self.__dict__.setdefault("_began", time.monotonic()))
            return super().display(*given, **options)

    return Bar


class _LogLines(tqdm.std.tqdm):
    """A progress bar that writes lines, for logs."""

    monitor_interval = 0  # no background thread for redrawing

    def __init__(self, *args: Any, **options: Any):
        text = "{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} to go, {rate_fmt}"
        pace = {"mininterval": LOG_SECONDS, "delay": LOG_SECONDS}
        super().__init__(*args, **pace, bar_format=text, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:  # noqa: ARG002  the names are tqdm's
        self.fp.write(f"{self}\n")
        LOG.info("%s", self)
        return True

    def close(self) -> None:
        if self.disable:
            return
        self.disable: bool = True
        self._decr_instances(self)
        if self.leave and (self.n > self.last_print_n or not self.n):
            self.display()
