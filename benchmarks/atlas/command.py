"""``python -m benchmarks atlas``: make ground truth, score methods, keep what was scored.

    atlas list                                    which ground truth and methods there are
    atlas make [--only NAME ...]                  make the ground truth that is not there
    atlas score --method MODULE:FUNCTION          score a method, one JSON a method
    atlas keep                                    scores become the results that the docs show

MODULE alone scores every method of its METHODS, such as ``benchmarks.atlas.ours``.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import importlib
import json
import sys
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from torch import nn

from benchmarks.atlas.parts import parts_of
from benchmarks.atlas.score import Method, NotForThisModel, method_of, row_of
from benchmarks.harness import machine, results
from benchmarks.harness.limit import OverLimit, limit
from influencekit.datasets import load_ground_truth
from influencekit.datasets._ground_truth import GroundTruth
from influencekit.datasets._truth_files import PARTS
from influencekit.datasets._truth_language import is_language

#: How the reason of a cell begins that took too long itself.
OVER = "over the limit:"
SCORES = Path(__file__).parent / "scores"
DIGITS = 4


def add_to(commands: argparse._SubParsersAction) -> None:
    """The words of the command line."""
    atlas = commands.add_parser("atlas", help="ground truth of the atlas, and scores of methods")
    words = atlas.add_subparsers(required=True, metavar="WORD")
    parsers = {}
    for word, do, about in (
        ("list", _list, "which ground truth and methods there are"),
        ("make", _make, "make the ground truth that is not there"),
        ("score", _score, "score a method"),
        ("keep", _keep, "scores become the results that the docs show"),
    ):
        parsers[word] = words.add_parser(word, help=about)
        parsers[word].set_defaults(do=do)
    for word in ("make", "score"):
        parsers[word].add_argument("--only", nargs="+", metavar="NAME", help="such as 'wine-*'")
    parsers["make"].add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS),
                                 help="that are added to what is there; default all")  # fmt: skip
    score = parsers["score"]
    score.add_argument("--method", required=True, metavar="MODULE:FUNCTION")
    score.add_argument("--name", help="of the method in tables; default its function's")
    score.add_argument("--folder", type=Path, default=SCORES, help="where its JSON goes")
    score.add_argument("--slow", action="store_true", help="also train without the first rows")
    score.add_argument(
        "--limit", type=float, metavar="SECONDS", help="CPU time for one ground truth"
    )
    score.add_argument("--fresh", action="store_true", help="forget what is there")
    score.add_argument("--retry", action="store_true", help="score failed cells again")


def chosen(names: list[str], only: list[str] | None) -> list[str]:
    """Names that match a pattern, all without one."""
    if not only:
        return names
    found = [name for name in names if any(fnmatch.fnmatch(name, p) for p in only)]
    if not found:
        raise SystemExit(f"--only: nothing matches {only}; there are {', '.join(names)}.")
    return found


def made() -> list[str]:
    """Names of the ground truth that is found, in the order of the list of cells."""
    from benchmarks.atlas.cells import CELLS
    from influencekit.datasets._truth_files import found_truths

    there = found_truths()
    return [*(name for name in CELLS if name in there), *sorted(set(there) - set(CELLS))]


def _list(_options: argparse.Namespace) -> None:
    from benchmarks.atlas import others, ours
    from benchmarks.atlas.cells import CELLS

    there = set(made())
    for name, cell in CELLS.items():
        print(f"{name:<24}{cell.n_train:>5} rows  {'made' if name in there else 'to be made'}")
    for module in (ours, others):
        print(f"{module.__name__}: {', '.join(module.METHODS)}")


def _make(options: argparse.Namespace) -> None:
    from benchmarks.atlas.cells import CELLS
    from benchmarks.atlas.make import make

    make(chosen(list(CELLS), options.only), parts=options.parts)


def _score(options: argparse.Namespace) -> None:
    methods = methods_of(options.method, options.name)
    for name, method in methods.items():
        score(name, method, options.method, chosen(made(), options.only), options)


def methods_of(place: str, name: str | None = None) -> dict[str, Method]:
    """One function, or all of a module's METHODS."""
    if ":" in place:
        method = method_of(place)
        return {name or place.partition(":")[2]: method}
    try:
        found = importlib.import_module(place).METHODS
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"--method: {place!r} has no METHODS ({error}); give module:function"
                         ) from None  # fmt: skip
    return found if name is None else {name: found[name]}


def score(
    name: str, method: Method, place: str, truths: list[str], options: argparse.Namespace
) -> dict:
    """Score a method on each ground truth; what is in its file is not scored again."""
    path = options.folder / f"{file_name(name)}.json"
    document = {} if options.fresh or not path.exists() else json.loads(path.read_text())
    cells = document.get("cells", {})
    document = {"method": name, "place": place, "machine": machine.facts(sys.executable),
                "ended": "", "cells": cells}  # fmt: skip
    for truth in truths:
        done = cells.get(truth)
        if done and not _again(done, truth, options):
            continue
        began, over = time.perf_counter(), over_on_a_smaller(truth, cells, options.limit)
        if over and not done:
            cells[truth] = {"status": over}
        else:
            with limit(options.limit):
                cells[truth] = _cell(method, truth, options.slow, done)
        document["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        results.save(path, document)
        print(f"{name} / {truth}: {_told(cells[truth])}, {time.perf_counter() - began:.1f} s",
              flush=True)  # fmt: skip
    return document


def _again(done: dict, truth: str, options: argparse.Namespace) -> bool:
    """Whether a cell that has a result is scored again, or lacks a measure."""
    if done["status"] != "ok":
        return options.retry
    wanted = [*parts_of(truth), *(["fall"] if options.slow else [])]
    return any(measure not in done["row"] for measure in wanted)


def over_on_a_smaller(truth: str, cells: dict, seconds: float | None) -> str:
    """Why a ground truth is not tried: a smaller one of the same kind was over the limit."""
    if seconds is None:
        return ""
    kind, size = _size(truth)
    for other, cell in cells.items():
        if cell["status"].startswith(OVER) and _size(other)[0] == kind and _size(other)[1] <= size:
            return (
                f"over the limit on {other}, which is smaller:{cell['status'].removeprefix(OVER)}"
            )
    return ""


def _size(truth: str) -> tuple[tuple, int]:
    """Kind of a ground truth's model and output, and its rows times its weights."""
    recipe, model = _read(truth).recipe, _read(truth).model
    module = model if isinstance(model, nn.Module) else getattr(model, "module_", None)
    weights = sum(p.numel() for p in module.parameters()) if module else _read(truth).X[0].size
    return (recipe["model"]["kind"], recipe["output"]), recipe["n_train"] * weights


@cache
def _read(truth: str) -> GroundTruth:
    """Read and built once for several methods, each of which gets a copy."""
    found = load_ground_truth(truth)
    planted = [found.facts()] if is_language(found.recipe["model"]) else [found.planted()]
    parts = [found, *planted, *([found.shortcut()] if len(found.marked) else [])]
    _ = [part.model for part in parts]
    return found


def _cell(method: Method, truth: str, slow: bool, done: dict | None = None) -> dict:
    """Score one ground truth; a row that is there only lacks what trains again."""
    try:
        found = copy.deepcopy(_read(truth))
        row = row_of(method, found, slow, done and done.get("row"))
        return {"status": "ok", "row": results.jsonable(row)}
    except NotForThisModel as error:
        return {"status": f"not for this model: {error}"}
    except OverLimit as error:
        return done if done and "row" in done else {"status": f"{OVER} {error}"}
    except Exception as error:  # a method's own, whatever it is: the reason stands in its place
        return {"status": results.plain(f"failed: {type(error).__name__}: {error}")[:200]}


def _told(cell: dict) -> str:
    if cell["status"] != "ok":
        return cell["status"]
    row = cell["row"]
    return f"LDS {row['lds']:.3f} ± {row['lds_error']:.3f} of {row['ceiling']:.3f}"


def file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_").lower()


def _keep(_options: argparse.Namespace) -> None:
    document = merged(sorted(SCORES.glob("*.json")))
    results.save(results.path_of("atlas"), document)
    print("kept; python -m benchmarks page writes atlas into the docs")


def merged(paths: list[Path]) -> dict:
    """The scores of all methods as the results of the study ``atlas``."""
    from benchmarks.studies.atlas import METHODS, STUDY

    documents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    ours = list(METHODS)  # first, in their order
    documents.sort(key=lambda d: ours.index(d["method"]) if d["method"] in ours else len(ours))
    cells = {}
    for document in documents:
        for truth, found in document["cells"].items():
            cell = {"method": document["method"], "truth": truth}
            rows = {"rows": [_rounded(found["row"])]} if found["status"] == "ok" else {}
            cells[STUDY.key_of(cell)] = {"cell": cell, "status": found["status"], **rows}
    newest = max(documents, key=lambda d: d["ended"])
    return {"study": "atlas", "question": STUDY.question, "settings": {}, "threads": 1,
            "machine": newest["machine"], "date": {"ended": newest["ended"]},
            "command": "python -m benchmarks atlas score", "cells": cells}  # fmt: skip


def _rounded(row: dict) -> dict:
    return {k: round(v, DIGITS) if isinstance(v, float) else v for k, v in row.items()}
