"""The other libraries' environment: a venv of its own, since their needs differ from ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
REQUIREMENTS = HERE / "peers" / "requirements.txt"
#: What the measurements themselves need; each other line of the requirements is a peer.
NEEDED = ("torch", "numpy", "scikit-learn", "skorch", "psutil", "distributed", "torchvision")


def make(venv: Path) -> tuple[str, dict[str, str]]:
    """Interpreter of the venv, made if it is not there, and reasons of what did not install."""
    python, done = venv / "bin" / "python", venv / "installed.json"
    wanted = REQUIREMENTS.read_text()
    if done.exists():
        before = json.loads(done.read_text())
        if before["requirements"] == wanted:
            return str(python), before["failed"]
    print(f"installing the other libraries into {venv} (takes minutes)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    needed = [line for line in lines if _name(line) in NEEDED]
    others = [line for line in lines if line not in needed]
    # torch first and alone: the other libraries would choose its version
    for group in ([line for line in needed if _name(line) == "torch"], needed):
        error = _install(python, *group)
        if error:
            raise SystemExit(f"{venv}: {' '.join(group)} did not install: {error}")
    error = _install(python, *needed, "-e", str(HERE.parent))
    if error:
        raise SystemExit(f"{venv}: influencekit did not install: {error}")
    failed = {}
    for line in others:
        error = _install(python, *needed, line)
        if error:
            failed[_name(line)] = error
    done.write_text(json.dumps({"requirements": wanted, "failed": failed}, indent=1))
    return str(python), failed


def _name(line: str) -> str:
    return re.split(r"[=\[]", line)[0]


def _install(python: Path, *what: str) -> str:
    """The last error of pip, or nothing."""
    pip = [str(python), "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check"]
    run = subprocess.run([*pip, *what], capture_output=True, text=True, cwd=HERE.parent)
    if run.returncode == 0:
        return ""
    lines = [line for line in run.stderr.splitlines() if "ERROR" in line]
    return (lines or run.stderr.splitlines() or ["unknown"])[-1][:200]


def libraries(python: str, failed: dict[str, str]) -> dict[str, dict]:
    """Methods and version of each library, or why there are none."""
    command = [python, str(HERE / "peers" / "run.py"), "--list"]
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or not lines:
        raise SystemExit(f"{' '.join(command)} failed:\n{run.stderr}")
    found = json.loads(lines[-1])
    for name, reason in failed.items():
        if name in found:
            found[name] = {"methods": [], "reason": f"did not install: {reason}"}
    return found
