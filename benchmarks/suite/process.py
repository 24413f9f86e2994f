"""A cell: one process, with a limit, whose last line is its result in JSON."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from peers._measure import READY

from suite.machine import OtherWork

SETUP_LIMIT = 600
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Cell:
    """What to run, and how long.

    Parameters
    ----------
    key : str
        Its place in the results, parts separated by slashes.
    python : str
        Interpreter.
    script : Path
    options : list of str
        Those that decide the result.
    limit : float
        Seconds, from the moment at which it says to be ready.
    common : list of str
        Other options: folders, threads.
    """

    key: str
    python: str
    script: Path
    options: list[str]
    limit: float
    common: list[str] = field(default_factory=list)

    def command(self) -> list[str]:
        """What to start."""
        return [self.python, str(self.script), *self.options, *self.common]

    def spec(self, threads: int) -> dict:
        """What decides the result; a finished cell with another is run again."""
        return {"options": self.options, "limit": self.limit, "threads": threads}


def run_cell(cell: Cell, threads: int, environment: dict[str, str]) -> dict:
    """Run it, and add the load average and what others took meanwhile."""
    load, others, start = os.getloadavg()[0], OtherWork(), time.time()
    names = {**dict.fromkeys(THREADS, str(threads)), "TQDM_DISABLE": "1"}
    result = _run(cell, {**environment, **names})
    took = {"load": load, "other_cores": others.cores(), "started": start}
    return {**result, **took, "wall": time.time() - start, "spec": cell.spec(threads)}


def _run(cell: Cell, environment: dict[str, str]) -> dict:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            cell.command(), stdout=subprocess.PIPE, stderr=errors, env=environment, bufsize=0
        )
        try:
            status, result = _watch(process, cell.limit)
        except BaseException:
            process.kill()
            raise
        code = _ended(process)
        if result is not None:
            return {"status": "ok", **result}
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()]
    if status:
        return {"status": status}
    if code < 0:
        return {"status": f"killed by signal {-code}"}
    return {"status": f"failed: {lines[-1][:200] if lines else f'exit code {code}'}"}


def _watch(process: subprocess.Popen, limit: float) -> tuple[str, dict | None]:
    """Read until the result, the limit, or the end."""
    started, deadline = False, time.monotonic() + SETUP_LIMIT
    while True:
        left = max(0, deadline - time.monotonic())
        ready, _, _ = select.select([process.stdout], [], [], left)
        if not ready:
            process.kill()
            return (f"> {limit:g} s" if started else "setup took too long"), None
        line = process.stdout.readline().decode(errors="replace").strip()
        if not line:
            return "", None
        if line.startswith("{"):  # what the process does after its result does not count
            return "", json.loads(line)
        if line == READY and not started:
            started, deadline = True, time.monotonic() + limit


def _ended(process: subprocess.Popen) -> int:
    """Exit code; a process that does not end after its result is stopped and counts as done."""
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 0
