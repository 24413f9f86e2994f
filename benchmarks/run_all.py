"""All comparisons and scaling series in one run, and the page that is drawn of them.

    python benchmarks/run_all.py             # minutes, on data that comes with scikit-learn
    INFLUENCEKIT_DATA=FOLDER python benchmarks/run_all.py --full --page docs/benchmarks.md
    python benchmarks/run_all.py --full --page docs/benchmarks.md --render-only

Each cell (a method of a library on a problem, a point of a series) is a process of its own; they
run one after another, on a machine that should do nothing else, and each says how busy others
were.  Results go to RESULTS/quick.json or RESULTS/full.json after each cell; a cell that is there
is not run again, unless ``--fresh``.  The other libraries are installed into a venv of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from suite import environment, machine, plan
from suite.page import render
from suite.process import run_cell

ROOT = Path(__file__).resolve().parents[1]
#: Facts that must not change between the parts of a run.
SAME = ("cpu", "cores", "versions", "peer_versions")


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="larger, on MNIST; under an hour")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, help="page to write; RESULTS/quick.md or full.md")
    parser.add_argument("--only", nargs="+", choices=plan.SECTIONS, default=plan.SECTIONS)
    parser.add_argument("--budget", type=float, help="minutes of all cells; 20, full 60")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--fresh", action="store_true", help="forget what is there")
    parser.add_argument("--render-only", action="store_true", help="draw what is there")
    args = parser.parse_args(argv)
    args.kind = "full" if args.full else "quick"
    args.budget = args.budget or (60 if args.full else 20)
    args.page = args.page or args.results / f"{args.kind}.md"
    return args


def child_environment(args) -> dict[str, str]:
    """Environment of the cells; quick runs see no data folder."""
    environ = dict(os.environ)
    folder = environ.pop("INFLUENCEKIT_DATA", None)
    if args.full:
        if folder is None or not (Path(folder) / "mnist" / "mnist.npz").exists():
            raise SystemExit(
                f"--full reads mnist/mnist.npz in the folder INFLUENCEKIT_DATA, which is {folder}. "
                "Set it, or leave --full out."
            )
        environ["INFLUENCEKIT_DATA"] = str(Path(folder).resolve())
    return environ


def load(path: Path, args, about: dict) -> dict:
    """Results so far, or a new document."""
    if not path.exists() or args.fresh:
        return {"kind": args.kind, "machine": about, "threads": args.threads, "cells": {}}
    found = json.loads(path.read_text(encoding="utf-8"))
    before = found["machine"]
    if any(before.get(name, value) != value for name, value in about.items() if name in SAME):
        raise SystemExit(
            f"{path} comes from another machine or other versions. Give --fresh to forget it, or "
            "another folder with --results."
        )
    return {**found, "machine": {**before, **about}, "threads": args.threads}


def save(path: Path, document: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(document, indent=1, default=str), encoding="utf-8")
    partial.replace(path)


def finished(cell, cells: dict, threads: int) -> bool:
    """Whether it need not run again."""
    found = cells.get(cell.key)
    return found is not None and found.get("spec") == cell.spec(threads)


def too_slow_before(key: str, cells: dict) -> str | None:
    """A method of a library that passed the limit on a smaller model is not tried on a larger."""
    kind, *rest = key.split("/")
    if kind != "peers" or rest[0] != "large":
        return None
    status = cells.get(f"peers/small/{rest[1]}/{rest[2]}", {}).get("status", "")
    return f"not run: {status} on the smaller model" if status.startswith(">") else None


def run(args, path: Path) -> dict:
    """Run the cells that are not there yet."""
    environ = child_environment(args)
    about = machine.facts(Path(sys.executable))
    libraries, peers = {}, ""
    if set(args.only) & plan.WITH_PEERS:
        peers, failed = environment.make(args.venv)
        libraries = environment.libraries(peers, failed)
        about["peer_versions"] = machine.versions(Path(peers))
    document = load(path, args, about)
    document["plan"] = plan.FULL if args.full else plan.QUICK
    document["libraries"] = libraries or document.get("libraries", {})
    folder = (args.results / args.kind).resolve()
    common = ["--output", str(folder), "--threads", str(args.threads)]
    todo = plan.cells(document["plan"], args.only, libraries, sys.executable, peers, common)
    cells, start, new_scores = document["cells"], time.monotonic(), False
    for i, cell in enumerate(todo, 1):
        if finished(cell, cells, args.threads) and not (cell.key == "agreement" and new_scores):
            continue
        skip = too_slow_before(cell.key, cells)
        if skip:
            result = {"status": skip, "spec": cell.spec(args.threads)}
        elif time.monotonic() - start > 60 * args.budget:
            result = {"status": plan.OUT_OF_TIME}
        else:
            result = run_cell(cell, args.threads, environ)
            new_scores |= cell.key.startswith("exact/")
        cells[cell.key] = result
        document["finished"] = datetime.now(UTC).isoformat(timespec="minutes")
        save(path, document)
        seconds = f", {result['seconds']:.3g} s" if "seconds" in result else ""
        print(f"{i}/{len(todo)} {cell.key}: {result['status']}{seconds}", flush=True)
    return document


def main() -> None:
    args = parse()
    # leave no cell behind when somebody ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    path = args.results / f"{args.kind}.json"
    if args.render_only:
        if not path.exists():
            raise SystemExit(f"{path} is not there; run without --render-only first.")
        document = json.loads(path.read_text(encoding="utf-8"))
    else:
        document = run(args, path)
    render(document, args.page)
    print(f"results in {path}, page in {args.page}")


if __name__ == "__main__":
    main()
