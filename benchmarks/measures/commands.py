"""What a command of the command line costs, in a process of its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time

from benchmarks.harness import cost_of

__all__ = ["cost_of_command"]

#: Runs a command as its only child, whose peak and CPU seconds it then knows.
PARENT = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
sys.stderr.buffer.write(done.stderr[-900:])
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(done.returncode)
"""


def cost_of_command(words: list[str], process: bool) -> dict:
    """Seconds, CPU seconds and peak (MB) of ``python -m influencekit`` with these words."""
    if not process:
        from influencekit.cli._main import main

        with contextlib.redirect_stdout(io.StringIO()):
            cost, code = cost_of(lambda: 0 if words == ["--version"] else main(words))
        return _checked(code, "", cost["seconds"], cost["cpu_seconds"], cost["peak_mb"])
    start = time.perf_counter()
    own = [sys.executable, "-c", PARENT, sys.executable, "-m", "influencekit", *words]
    done = subprocess.run(own, capture_output=True, text=True, check=False)
    cpu, peak = map(float, (done.stdout.split() or ["0", "0"])[:2])
    return _checked(done.returncode, done.stderr, time.perf_counter() - start, cpu, peak)


def _checked(code: int, said: str, seconds: float, cpu: float, peak: float) -> dict:
    if code:
        raise RuntimeError(f"the command ended with {code}: {said}")
    return {"seconds": seconds, "CPU seconds": cpu, "peak MB": peak}
