"""Environments of other libraries: venvs of their own, since their needs differ from ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.results import plain

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "benchmarks" / "peers" / "requirements"
#: In place of the venv of an environment, for tests.
OVERRIDE = "BENCHMARKS_PYTHON"


def names() -> list[str]:
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def folder(name: str) -> Path:
    return ROOT / f".venv-{name}"


def python_of(name: str | None) -> tuple[str, str | None]:
    """Interpreter of an environment (None: this one), and why it cannot be used, if so."""
    if name is None or os.environ.get(OVERRIDE):
        return sys.executable, None
    done = folder(name) / "installed.json"
    if not done.exists():
        return "", f"environment {name!r} is not made; run python -m benchmarks peers"
    return str(folder(name) / "bin" / "python"), None


def failed(name: str | None) -> dict[str, str]:
    """Packages of an environment that did not install, and why."""
    done = folder(name or "") / "installed.json"
    return json.loads(done.read_text())["failed"] if name and done.exists() else {}


def make(name: str) -> dict[str, str]:
    """Make an environment where it is not there yet; what did not install, and why.

    The lines above the line ``# peers`` are what every measurement needs; each line below it
    is a package that may fail by itself.
    """
    if name not in names():
        raise SystemExit(f"There is no environment {name!r}. There are: {', '.join(names())}.")
    target, text = folder(name), (REQUIREMENTS / f"{name}.txt").read_text()
    done = target / "installed.json"
    if done.exists() and json.loads(done.read_text())["requirements"] == text:
        return failed(name)
    print(f"installing {name} into {target.name} (takes minutes)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    python = target / "bin" / "python"
    base, peers = (_lines(part) for part in text.split("# peers\n"))
    # torch first and alone: the other libraries would choose its version
    for group in (base[:1], base, [*base, "-e", str(ROOT)]):
        error = _install(python, group)
        if error:
            raise SystemExit(
                f"{target.name}: {' '.join(group[:3])} did not install: {error}\nAn index of "
                "packages is needed; without one the other libraries are left out of every study."
            )
    reasons = {}
    for line in peers:
        words = line.split()
        pins = [] if "--no-deps" in words else base
        error = _install(python, [*pins, *words])
        if error:
            reasons[_name(line)] = f"did not install: {error}"
            print(f"{_name(line)} did not install: {error}", flush=True)
    done.write_text(json.dumps({"requirements": text, "failed": reasons}, indent=1))
    return reasons


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _name(line: str) -> str:
    return re.split(r"[=\[ ]", line)[0]


def _install(python: Path, what: list[str]) -> str:
    """The last error of pip, or nothing."""
    pip = [str(python), "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check"]
    run = subprocess.run([*pip, *what], capture_output=True, text=True, cwd=ROOT)
    if run.returncode == 0:
        return ""
    lines = [line for line in run.stderr.splitlines() if "ERROR" in line]
    return plain((lines or run.stderr.splitlines() or ["unknown"])[-1])[:200]
