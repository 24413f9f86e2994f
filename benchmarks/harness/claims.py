"""Claims of papers: what each says, what came out here, and whether it holds.

A claim names its study and a function that reads the verdict from the study's kept results.  A page
shows the claims of a paper between ``<!-- claims: PAPER -->`` and ``<!-- end claims -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness import pages, results
from benchmarks.harness.tables import Table

HOLDS, IN_PART, FAILS, OPEN = "holds", "holds in part", "does not hold", "not measured"
CLAIMS = re.compile(r"(<!-- claims: (.+?) -->\n)(.*?)(<!-- end claims -->)", re.DOTALL)
NUMBER = re.compile(r"[-−]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?")


class Missing(LookupError):
    """The kept results do not have what a claim reads."""


@dataclass(frozen=True)
class Claim:
    """What a paper says, and how the kept results answer.

    Parameters
    ----------
    says : str
        The claim, in a sentence.
    study : str
        Whose kept results are read.
    read : callable
        ``read(evidence)`` gives the verdict and what came out here.
    spread : str or callable
        Seeds and standard errors; a function of the evidence.
    """

    says: str
    study: str
    read: Callable[[Evidence], tuple[str, str]]
    spread: str | Callable[[Evidence], str]


class Evidence:
    """Kept results of a study, as a claim reads them.

    Parameters
    ----------
    document : dict
    """

    def __init__(self, document: dict):
        self.document = document
        self.tables = pages.tables_of(document)

    def rows(self, **chosen) -> list[dict]:
        """Rows that have the chosen values."""
        if "cells" not in self.document:
            raise Missing("the results are transcribed and have no rows")
        found = results.rows_of(self.document)
        found = [r for r in found if all(r.get(name) == v for name, v in chosen.items())]
        if not found:
            raise Missing(f"no row with {chosen}")
        return found

    def row(self, **chosen) -> dict:
        """The one row that has the chosen values."""
        return self.rows(**chosen)[0]

    def columns(self, view: str, start: str = "") -> list[str]:
        """Names of a table's columns that begin so."""
        return [name for name in self._table(view).head[1:] if name.startswith(start)]

    def line(self, view: str, name: str) -> list[str]:
        """Cells of a table's line behind the first."""
        found = [row for row in self._table(view).rows if row[0] == name]
        if not found:
            raise Missing(f"{view!r} has no line {name!r}")
        return found[0][1:]

    def column(self, view: str, name: str) -> list[str]:
        """Cells of a table's column."""
        table = self._table(view)
        if name not in table.head:
            raise Missing(f"{view!r} has no column {name!r}")
        return [row[table.head.index(name)] for row in table.rows]

    def lines(self, view: str) -> list[str]:
        """First cells of a table's lines."""
        return [line[0] for line in self._table(view).rows]

    def text(self, view: str, line: str | tuple[str, ...], column: str) -> str:
        """A cell of a table; a line is named by its first cells."""
        table = self._table(view)
        first = [line] if isinstance(line, str) else list(line)
        found = [row for row in table.rows if row[: len(first)] == first]
        if not found or column not in table.head:
            raise Missing(f"{view!r} has no {' / '.join(first)} under {column}")
        return found[0][table.head.index(column)]

    def numbers(self, view: str, line: str | tuple[str, ...], column: str) -> list[float]:
        """All numbers of a cell."""
        found = NUMBER.findall(self.text(view, line, column))
        return [float(n.replace(",", "").replace("−", "-")) for n in found]

    def number(self, view: str, line: str | tuple[str, ...], column: str) -> float | None:
        """The first number of a cell; None where it has none."""
        found = self.numbers(view, line, column)
        return found[0] if found else None

    def fact(self, pattern: str) -> re.Match:
        """Where a pattern stands in the sentences that were transcribed."""
        for fact in self.document.get("facts", []):
            found = re.search(pattern, fact["text"])
            if found:
                return found
        raise Missing(f"no sentence with {pattern!r}")

    @property
    def source(self) -> str:
        """The command, and where transcribed results were taken from."""
        command = f"`{self.document['command']}`"
        if "transcribed" not in self.document:
            return command
        commits = {part["commit"] for part in self.document["transcribed"]["sources"].values()}
        return f"{command}; transcribed, {', '.join(sorted(commits))}"

    def _table(self, view: str) -> Table:
        if view not in self.tables:
            raise Missing(f"there is no table {view!r}")
        return self.tables[view]


def judged(claim: Claim) -> list[str]:
    """A line of the table: claim, command, what came out, seeds and errors, verdict."""
    path = results.path_of(claim.study)
    if not path.exists():
        command = f"`python -m benchmarks run {claim.study}`"
        return [claim.says, command, "no kept results", "–", OPEN]
    evidence = Evidence(results.read(path))
    try:
        verdict, found = claim.read(evidence)
        spread = claim.spread if isinstance(claim.spread, str) else claim.spread(evidence)
    except Missing as why:
        return [claim.says, evidence.source, f"not in the kept results: {why}", "–", OPEN]
    return [claim.says, evidence.source, found, spread, verdict]


def share(true: int, of: int) -> str:
    """The verdict where a claim should be true of all cases, and is of some."""
    return HOLDS if true == of else IN_PART if 2 * true >= of else FAILS


def table_of(paper: str) -> Table:
    """All claims of a paper."""
    from benchmarks.claims import PAPERS  # the list is made of this file's classes

    if paper not in PAPERS:
        raise SystemExit(f"There are no claims of {paper!r}. There are: {', '.join(PAPERS)}.")
    head = ["claim", "command", "what came out here", "seeds, s.e.", "verdict"]
    return Table(head, [judged(claim) for claim in PAPERS[paper]], len(head))


def rendered(text: str) -> str:
    """A page with its tables of claims written anew."""

    def write(found: re.Match) -> str:
        head, paper, _, end = found.groups()
        return f"{head}\n{table_of(paper).markdown()}\n\n{end}"

    return CLAIMS.sub(write, text)
