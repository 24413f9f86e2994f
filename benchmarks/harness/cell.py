"""A cell in a process of its own, with a limit; its last line is its result in JSON."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.harness.measure import READY

ROOT = Path(__file__).resolve().parents[2]
SETUP_LIMIT = 900
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def command(python: str, name: str, cell: dict, settings: dict) -> list[str]:
    return [python, "-m", "benchmarks", "cell", name, json.dumps(cell), json.dumps(settings)]


def run_process(words: list[str], limit: float | None, threads: int | None = None) -> dict:
    """Start it, wait for its result, its limit or its end."""
    environ = {**os.environ, "BENCHMARKS_CELL": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    if threads:
        environ.update(dict.fromkeys(THREADS, str(threads)))
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, env=environ, bufsize=0, cwd=ROOT
        )
        try:
            status, result = _watch(process, limit)
        except BaseException:
            process.kill()
            raise
        code = _ended(process)
        if result is not None:
            return result
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()]
    if status:
        return {"status": status}
    if code < 0:
        return {"status": f"killed by signal {-code}"}
    return {"status": f"failed: {lines[-1][:200] if lines else f'exit code {code}'}"}


def _watch(process: subprocess.Popen, limit: float | None) -> tuple[str, dict | None]:
    """Read until the result, the limit, or the end."""
    started, deadline = False, time.monotonic() + SETUP_LIMIT
    while True:
        left = None if limit is None else max(0, deadline - time.monotonic())
        found, _, _ = select.select([process.stdout], [], [], left)
        if not found:
            process.kill()
            return (f"> {limit:g} s" if started else "setup took too long"), None
        line = process.stdout.readline().decode(errors="replace").strip()
        if not line:
            return "", None
        if line.startswith("{"):  # what the process does after its result does not count
            return "", json.loads(line)
        if line == READY and not started and limit is not None:
            started, deadline = True, time.monotonic() + limit


def _ended(process: subprocess.Popen) -> int:
    """Exit code; a process that does not end after its result is stopped and counts as done."""
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 0
