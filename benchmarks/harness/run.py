"""Run a study: cell by cell, each kept as soon as it is done, so that a run can be ended."""

from __future__ import annotations

import math
import os
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import environments, machine, results
from benchmarks.harness.cell import command, run_process
from benchmarks.harness.measure import cost_of
from benchmarks.harness.study import QUICK, Study

#: Facts that must not change between the parts of a run.
SAME = ("cpu", "cores", "versions")
OURS = "influencekit"
OUT_OF_TIME = "not run: the time was used up"
#: Failures of what the machine had not yet, a folder of data or a package.
LACKING = tuple(
    f"failed: {reason}"
    for reason in ("environment", "FileNotFoundError", "ModuleNotFoundError", "ImportError")
)


@dataclass
class Options:
    """How a study is run, apart from what decides its results."""

    size: str = "full"
    folder: Path = results.RUNS
    only: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    repeats: int | None = None
    threads: int | None = None
    fresh_results: bool = False
    retry: bool = False
    deadline: float = math.inf
    skip: Callable[[str, dict], str | None] = lambda key, cells: None
    say: Callable[[str], None] = lambda line: print(line, flush=True)


def run(study: Study, options: Options) -> dict:
    """Run the cells that are not there yet; returns the document that was written."""
    path = results.path_of(study.name, options.size, options.folder)
    settings = study.settings_at(options.size, options.settings)
    document = _document(study, path, settings, options)
    cells = study.cells(options.size, options.only)
    for i, cell in enumerate(cells, 1):
        key = study.key_of(cell)
        spec = {"cell": cell, "settings": settings, "threads": options.threads}
        if _done(document["cells"].get(key), spec, options.retry):
            continue
        reason = options.skip(key, document["cells"])
        if reason is None and time.monotonic() > options.deadline:
            reason = OUT_OF_TIME
        found = {"status": reason} if reason else _run_cell(study, cell, settings, options)
        document["cells"][key] = {**spec, **found}
        document["date"]["ended"] = _now()
        results.save(path, document)
        options.say(f"{study.name} {i}/{len(cells)} {key}: {_said(found)}")
    return document


def _document(study: Study, path: Path, settings: dict, options: Options) -> dict:
    """Results so far, or a new document."""
    about = machine.facts(sys.executable)
    new = {
        "study": study.name,
        "question": study.question,
        "command": f"python -m benchmarks run {study.name}",
        "size": options.size,
        "settings": settings,
        "machine": about,
        "threads": options.threads or torch.get_num_threads(),
        "date": {"started": _now(), "ended": None},
        "cells": {},
    }
    if options.fresh_results or not path.exists():
        return new
    found = results.read(path)
    if "cells" not in found:
        raise SystemExit(f"{path} is transcribed and no run; give another folder with --results.")
    before = found["machine"]
    if any(before.get(name) != about.get(name) for name in SAME):
        raise SystemExit(
            f"{path.name} comes from another machine or other versions. Give --fresh to forget "
            "it, or another folder with --results."
        )
    return {**new, "date": found["date"], "cells": found["cells"]}


def _done(found: dict | None, spec: dict, retry: bool) -> bool:
    """Whether it need not run again: a result of the same settings, or a failure of its own."""
    if found is None or found["status"].startswith((OUT_OF_TIME, *LACKING)):
        return False
    if retry and found["status"] != "ok":
        return False
    return all(found.get(name) == value for name, value in spec.items())


def _run_cell(study: Study, cell: dict, settings: dict, options: Options) -> dict:
    """Rows of a cell with costs, or why there are none."""
    load, others, began = _load(), machine.OtherWork(), time.monotonic()
    fresh = (study.fresh or study.environment) and options.size != QUICK
    if fresh:
        found = _in_a_process(study, cell, settings, options)
    else:
        found = here(study, cell, settings, options.repeats or study.repeats)
    wall = time.monotonic() - began
    return {**found, "load": load, "other_cores": others.cores(), "wall": wall}


def _in_a_process(study: Study, cell: dict, settings: dict, options: Options) -> dict:
    python, reason = environments.python_of(study.environment_of(cell))
    if reason and cell.get("library", OURS) == OURS:  # ours is installed here too
        python, reason = sys.executable, None
    if reason:
        return {"status": f"failed: {reason}"}
    words = command(python, study.name, cell, settings)
    runs = [
        run_process(words, study.limit, options.threads)
        for _ in range(options.repeats or study.repeats)
    ]
    return _best(runs)


def here(study: Study, cell: dict, settings: dict, repeats: int = 1) -> dict:
    """Run a cell in this process."""
    return _best([_once(study, cell, settings) for _ in range(repeats)])


def _once(study: Study, cell: dict, settings: dict) -> dict:
    seed_everything(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cost, rows = cost_of(lambda: study.rows_of(cell, settings))
    except (Exception, SystemExit) as error:
        if os.environ.get("BENCHMARKS_TRACEBACK"):
            traceback.print_exc()
        return {"status": f"failed: {results.plain(f'{type(error).__name__}: {error}')[:200]}"}
    return {"status": "ok", **cost, "rows": results.jsonable(rows)}


def _best(runs: list[dict]) -> dict:
    """The run with the least seconds, with those of all."""
    done = [run for run in runs if run["status"] == "ok"]
    if not done:
        return runs[0]
    best = min(done, key=lambda run: run["seconds"])
    return {**best, "all_seconds": [run["seconds"] for run in done]} if len(runs) > 1 else best


def seed_everything(seed: int) -> None:
    """A cell never depends on those before it."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def _said(found: dict) -> str:
    seconds = f", {found['seconds']:.3g} s" if "seconds" in found else ""
    return f"{found['status']}{seconds}"


def _load() -> float:
    return os.getloadavg()[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="minutes")
