"""``make bench``: other libraries, cost and plain loops, one study after another."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.harness import environments, pages, results
from benchmarks.harness.run import Options, run
from benchmarks.harness.study import FULL, load

#: In the order in which they run, the long comparisons last.
STUDIES = ("scaling", "dot_products", "stacked_training", "further_training", "peers_lds",
           "peers_scores", "peers")  # fmt: skip


def bench(options: Options, minutes: float) -> None:
    """Run all, and write their tables; a full run is kept and goes into the docs."""
    options.skip = too_slow_before
    options.deadline = time.monotonic() + 60 * minutes
    make_environments()
    documents = [run(load(name), options) for name in STUDIES]
    page = results.path_of("benchmarks", options.size, options.folder).with_suffix(".md")
    page.write_text(written(documents), encoding="utf-8")
    print(f"tables in {page}")
    if options.size == FULL:
        keep(documents)


def keep(documents: list[dict]) -> None:
    """Into the docs, with their pictures."""
    from benchmarks.measures.pictures import PICTURES, draw

    for document in documents:
        results.save(results.path_of(document["study"]), document)
        if document["study"] in PICTURES:
            rows = results.rows_of(document, failed=True)
            draw(document["study"], rows, Path(results.ROOT) / "docs" / "images")
    print("\n".join(["kept, and written into:", *pages.write()]))


def written(documents: list[dict]) -> str:
    """All tables of some documents as one page."""
    parts = ["# Benchmarks", pages.about(documents[-1]).markdown()]
    for document in documents:
        parts.append(f"## {document['question']}")
        for name, table in pages.tables_of(document).items():
            parts += [f"### {name}", table.markdown()]
    return "\n\n".join(parts) + "\n"


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
