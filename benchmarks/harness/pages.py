"""Kept results in the docs: tables are written by this program, and no figure stands alone.

A *measured* part of a page begins with ``<!-- measured: STUDY ... -->`` and ends with
``<!-- end measured -->``; ``; limits: 6,000 ...`` after the studies names numbers of the library
that are no results.  Inside it ``<!-- table: STUDY / VIEW -->`` to ``<!-- end table -->`` is
written from the study's results, and every other figure must be one of theirs, see ``trace``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import results
from benchmarks.harness.study import load
from benchmarks.harness.tables import Table

ROOT = results.ROOT
MEASURED = re.compile(
    r"<!-- measured: ([\w ]+)(?:; limits: (.*?))? -->\n(.*?)<!-- end measured -->", re.DOTALL
)
TABLE = re.compile(r"(<!-- table: (\w+) / (.+?) -->\n)(.*?)(<!-- end table -->)", re.DOTALL)


@dataclass
class Part:
    """A measured part of a page."""

    page: Path
    studies: list[str]
    limits: list[str]
    text: str


def pages() -> list[Path]:
    """All that may have measured parts."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def parts(page: Path) -> Iterator[Part]:
    for found in MEASURED.finditer(page.read_text(encoding="utf-8")):
        yield Part(page, found[1].split(), (found[2] or "").split(), found[3])


def tables_of(document: dict) -> dict[str, Table]:
    """Tables of a document by name: transcribed ones, or made of its rows."""
    if "tables" in document:
        return {name: Table(**table) for name, table in document["tables"].items()}
    study = load(document["study"])
    rows = results.rows_of(document, study.shows_failures)
    if not rows:
        return {}
    found = study.tables(rows) if study.tables else {"rows": all_of(rows)}
    return {**found, "the run": about(document)}


def about(document: dict) -> Table:
    """The machine, versions and day of a run."""
    machine = document["machine"]
    memory = f", {machine['memory_gb']:.0f} GB" if machine.get("memory_gb") else ""
    commit = machine.get("commit") or "unknown"
    lines = [
        ["machine", f"{machine.get('cpu')}, {machine.get('cores')} cores{memory}"],
        ["threads", str(document["threads"])],
        ["ended", f"{(document['date']['ended'] or '')[:16].replace('T', ' ')} UTC"],
        ["commit", commit + (", changed" if machine.get("uncommitted") else "")],
        ["versions", ", ".join(f"{k} {v}" for k, v in machine["versions"].items())],
    ]
    return Table(["", ""], lines, 2)


def all_of(rows: list[dict]) -> Table:
    """Every number of every row, for studies without tables of their own."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    head = [key for key in head if not isinstance(rows[0].get(key), list | dict)]
    return Table(head, [[_text(row.get(key)) for key in head] for row in rows])


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def kept(name: str) -> dict:
    path = results.path_of(name)
    if not path.exists():
        raise SystemExit(f"{name} has no kept results: {path.relative_to(ROOT)} is not there.")
    return results.read(path)


def rendered(text: str) -> str:
    """A page with its tables written anew."""

    def write_table(found: re.Match) -> str:
        head, name, view, _, end = found.groups()
        tables = tables_of(kept(name))
        if view not in tables:
            raise SystemExit(f"{name} has no table {view!r}; it has {sorted(tables)}.")
        return f"{head}\n{tables[view].markdown()}\n\n{end}"

    from benchmarks.harness import claims  # which reads tables by this file

    return claims.rendered(TABLE.sub(write_table, text))


def write(check: bool = False) -> list[str]:
    """Write all tables; which pages changed, or would."""
    changed = []
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = rendered(before)
        if after != before:
            changed.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(after, encoding="utf-8")
    return changed
