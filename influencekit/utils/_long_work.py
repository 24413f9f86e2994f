"""Helpers for long work: memory limits, free memory, slices under a budget, and progress bars."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import torch
import tqdm.auto
import tqdm.std

__all__ = ["chunks", "format_bytes", "free_memory", "parse_memory", "progress"]

#: Seconds between lines in a log.
LOG_SECONDS = 30

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


def parse_memory(max_memory: int | str | None, device: torch.device | None = None) -> int:
    """Bytes meant by ``max_memory``.

    Parameters
    ----------
    max_memory : int, str or None
        Bytes, a string such as "500MB", "2GB" or "1.5GiB", or None for half of the free memory.
    device : torch.device, optional
        Device whose memory is meant; the main memory if None.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the amount cannot be read or is not positive.
    """
    if max_memory is None:
        return free_memory(device) // 2
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
            "100 TB, a string such as '500MB', '2GB' or '1.5GiB', or None for half of the free "
            "memory."
        )
    return amount


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
    a file or a pipe, a line is written every 30 seconds and at the end.

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
    bar = tqdm.auto.tqdm if _redraws() else _LogLines
    return bar(items, desc=description, disable=verbose <= 0, **options)


def _redraws() -> bool:
    """Whether output can be overwritten, as in terminals and notebooks."""
    if tqdm.auto.notebook_tqdm is not tqdm.std.tqdm:
        return True  # ipywidgets are installed
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


class _LogLines(tqdm.std.tqdm):
    """A progress bar that writes lines, for logs."""

    monitor_interval = 0  # no background thread for redrawing

    def __init__(self, *args: Any, **options: Any):
        text = "{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} to go, {rate_fmt}"
        pace = {"mininterval": LOG_SECONDS, "delay": LOG_SECONDS}
        super().__init__(*args, **pace, bar_format=text, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:  # noqa: ARG002  the names are tqdm's
        self.fp.write(f"{self}\n")
        return True

    def close(self) -> None:
        if self.disable:
            return
        self.disable: bool = True
        self._decr_instances(self)
        if self.leave and (self.n > self.last_print_n or not self.n):
            self.display()
