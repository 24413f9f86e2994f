"""What a measured process does: announce itself, watch its memory, print its result."""

from __future__ import annotations

import json
import time
from pathlib import Path

#: Printed when imports, reading and training are done: from here on the limit counts.
READY = "ready to fit"
STATUS = Path("/proc/self/status")


def timed(job) -> tuple[dict, object]:
    """Seconds and peak of memory (MB above what was held before) of a job, and its result."""
    print(READY, flush=True)
    _forget_peak()
    before, start = _memory("VmRSS"), time.perf_counter()
    result = job()
    facts = {"seconds": time.perf_counter() - start, "peak_mb": None}
    if before is not None:
        facts["peak_mb"] = (_memory("VmHWM") - before) / 2**20
    return facts, result


def emit(result: dict) -> None:
    """Print the result, as the last line, in JSON."""
    print(json.dumps(result, default=str), flush=True)


def _memory(key: str) -> int | None:
    """Bytes in memory now ("VmRSS") or at most since the last reset ("VmHWM"); Linux only."""
    if not STATUS.exists():
        return None
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return None


def _forget_peak() -> None:
    """Let the kernel forget the peak so far (imports, reading)."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")
