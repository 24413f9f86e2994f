"""What a result says about the machine, and how busy others kept it.  No names, no paths."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAT = Path("/proc/stat")
#: What a result comes from; a run writes its page elsewhere.
CODE = ("--", "influencekit", "benchmarks", ":!benchmarks/results")


def facts(python: str | Path) -> dict:
    """The machine and the versions that an interpreter has."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": platform.system(),
        "versions": versions(python),
        **commit(),
    }


def commit() -> dict:
    """The commit that runs, and whether anything was changed since."""
    return {
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted": bool(_git("status", "--porcelain", "--untracked-files=no", *CODE)),
    }


def versions(python: str | Path, more: tuple[str, ...] = ()) -> dict[str, str]:
    """Versions that a result depends on, in an environment."""
    names = ("influencekit", "torch", "numpy", "scipy", "scikit-learn", "skorch", *more)
    code = (
        "import platform; from importlib.metadata import PackageNotFoundError, version\n"
        "print('python', platform.python_version())\n"
        f"for name in {names}:\n"
        "    try: print(name, version(name))\n"
        "    except PackageNotFoundError: pass\n"
    )
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(line.split() for line in run.stdout.splitlines())


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    path = Path("/proc/meminfo")
    return int(path.read_text().split()[1]) / 2**20 if path.exists() else None


def _git(*words: str) -> str | None:
    try:
        run = subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


class OtherWork:
    """Cores that work outside of this process and its children took, on average (Linux)."""

    def __init__(self):
        self.start = time.monotonic(), _busy(), _own()

    def cores(self) -> float | None:
        """Average since the start; None where the system does not say."""
        began, busy, own = self.start
        if busy is None:
            return None
        seconds = max(1e-9, time.monotonic() - began)
        return max(0.0, (_busy() - busy - (_own() - own)) / seconds)


def _busy() -> float | None:
    """Core seconds since boot that were not idle, those taken by other guests among them."""
    if not STAT.exists():
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(
        int, STAT.read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Core seconds of this process and the children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)
