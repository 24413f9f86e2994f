"""Seconds, CPU seconds and peak of memory of a job."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

#: Printed when imports, reading and training are done: from here on a limit counts.
READY = "ready to measure"
STATUS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs")


def ready() -> None:
    """Say that what is measured begins now; only a parent process listens."""
    if os.environ.get("BENCHMARKS_CELL"):
        print(READY, flush=True)


def cost_of(job: Callable) -> tuple[dict, object]:
    """Seconds, CPU seconds, peak memory above what was held before (MB), and the result."""
    forget_peak()
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    result = job()
    cost = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": None,
    }
    if before is not None:
        cost["peak_mb"] = (memory("VmHWM") - before) / 2**20
    return cost, result


def timed(job: Callable) -> tuple[dict, object]:
    """``cost_of``, after saying that set-up is over."""
    ready()
    return cost_of(job)


def side_by_side(jobs: dict[str, Callable], repeats: int = 1) -> tuple[dict, dict]:
    """Costs and last results of jobs that take turns in this process; the least seconds count."""
    costs: dict[str, dict] = {}
    results: dict[str, object] = {}
    ready()
    for _ in range(repeats):
        for name, job in jobs.items():
            cost, results[name] = cost_of(job)
            best = costs.setdefault(name, cost)
            costs[name] = min(best, cost, key=lambda c: c["seconds"])
    return costs, results


def memory(key: str) -> int | None:
    """Bytes in memory now ("VmRSS") or at most since the last reset ("VmHWM"); Linux only."""
    if not STATUS.exists():
        return None
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return None


def forget_peak() -> None:
    """Let the kernel forget the peak so far (imports, reading)."""
    if FORGET.exists():
        FORGET.write_text("5")
