"""``make bench``: other libraries, cost and plain loops, as one page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import environments, results
from benchmarks.harness.machine import versions
from benchmarks.harness.run import Options, run
from benchmarks.harness.study import load

ROOT = results.ROOT
#: In the order in which they run, the long comparisons last.
STUDIES = ("scaling", "dot_products", "stacked_training", "further_training", "peers_lds",
           "peers_scores", "peers")  # fmt: skip


def bench(options: Options, render_only: bool = False) -> None:
    """Run all of its studies, and write the page."""
    from benchmarks.harness.bench.page import render

    options.skip = too_slow_before
    if not render_only:
        make_environments()
    documents = []
    for name in STUDIES:
        path = results.path_of(name, options.size, options.folder)
        if not render_only:
            run(load(name), options)
        elif not path.exists():
            raise SystemExit(f"{path.name} is not there; run without --render-only first.")
        documents.append(results.read(path))
    merged = together(documents)
    page = ROOT / "docs" / "benchmarks.md"
    if options.size != "full":
        page = Path(options.folder) / options.size / "benchmarks.md"
    kept = options.size == "full"
    results.save(results.path_of("benchmarks") if kept else page.with_suffix(".json"), merged)
    render(merged, page)
    print(f"page in {page}")


def make_environments() -> None:
    """Where it cannot be done the other libraries' cells are shown as failing."""
    for name in ("peers", "bergson"):
        try:
            environments.make(name)
        except SystemExit as error:
            print(error, flush=True)


def too_slow_before(key: str, cells: dict) -> str | None:
    """A method of a library that passed the limit on a smaller model is not tried on a larger."""
    kind, *rest = key.split("/")
    if kind != "peers" or rest[0] != "large":
        return None
    status = cells.get(f"peers/small/{rest[1]}/{rest[2]}", {}).get("status", "")
    return f"not run: {status} on the smaller model" if status.startswith(">") else None


def together(documents: list[dict]) -> dict:
    """One document of the studies' documents, cells by the names that they always had."""
    cells = {key: flat(cell) for d in documents for key, cell in d["cells"].items()}
    rows = [c for key, c in cells.items() if key.startswith("exact/") and c["status"] == "ok"]
    if rows:
        about = {name: rows[0][name] for name in ("p", "n", "m", "damping")}
        cells["agreement"] = {"status": "ok", "rows": rows, **about}
    by_name = {d["study"]: d for d in documents}
    peers, scaling = by_name["peers"], by_name["scaling"]
    base = {axis: _first(scaling, axis) for axis in ("n", "m", "width")}
    return {
        "study": "benchmarks",
        "question": "How do other libraries compare, and what does it cost?",
        "command": "make bench-full",
        "drawn": "docs/benchmarks.md is written from these cells as a whole",
        "kind": "full" if peers["size"] == "full" else "quick",
        "machine": {**peers["machine"], "peer_versions": _peer_versions(cells)},
        "threads": peers["threads"],
        "finished": max(d["date"]["ended"] or "" for d in documents),
        "libraries": libraries(cells),
        "plan": {
            "limit": load("peers").limit,
            "sizes": [
                s for s in ("small", "large") if any(k.startswith(f"peers/{s}/") for k in cells)
            ],
            "dampings": [f"{d:g}" for d in by_name["peers_lds"]["settings"]["dampings"]],
            "base": base,
            "scaling": ["graddot", "ekfac", "ggn", "trak", "trak_two_sided"],
        },
        "cells": cells,
    }


def flat(cell: dict) -> dict:
    """A cell with the numbers of its one row beside its own."""
    rows = cell.get("rows") or [{}]
    found = {**{k: v for k, v in cell.items() if k not in ("rows", "settings")}, **cell["cell"]}
    found = {**found, **(cell["settings"] if "damping" in cell["settings"] else {}), **rows[0]}
    if "dampings" in rows[0]:
        found["rows"] = rows[0]["dampings"]
    return found


def _first(document: dict, axis: str):
    """The base of the series: what the peak's cell has."""
    return document["cells"]["peak"]["cell"][axis]


def libraries(cells: dict) -> dict[str, dict]:
    """Version of each library, or why there is none."""
    from benchmarks.peers import LIBRARIES

    reasons = {n: r for env in environments.names() for n, r in environments.failed(env).items()}
    found: dict[str, dict] = {}
    for name in LIBRARIES:
        own = [cell for key, cell in cells.items() if key.endswith(f"/{name}")]
        done = [cell["version"] for cell in own if "version" in cell]
        if done:
            found[name] = {"version": done[0]}
        elif own:
            found[name] = {"reason": reasons.get(name, own[0]["status"])}
    return found


def _peer_versions(cells: dict) -> dict[str, str]:
    python, reason = environments.python_of("peers")
    return {} if reason else versions(python)
