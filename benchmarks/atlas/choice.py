"""Which method to take: the best of each budget, by question and model, and what more buys."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.harness.tables import Table, mean_error

#: What a method needs; methods of other libraries are compared apart.
BUDGETS = {
    "the data": ("Near rows of the same label", "KNNShapley", "bm25s: BM25"),
    "the final model": (
        "Loss", "Hidden layer, same label", "GradDot", "GradCos", "TRAK", "InfluenceFunction",
        "InfluenceFunction, fisher", "InfluenceFunction, ekfac", "TreeInfluence",
    ),
    "checkpoints of its run": ("RunAverage", "RunAverage, TRAK"),
    "the recorded run": ("SGDInfluence, AdamWInfluence",),
}  # fmt: skip
QUESTIONS = {"retrained on halves": "lds_over_ceiling", "this run, 10 % less": "run_10",
             "single rows": "single", "trained further": "further", "wrong labels": "wrong_labels",
             "a shortcut": "shortcut", "facts to trace": "facts",
             "first rows left out": "fall"}  # fmt: skip
#: The questions of a table that fits on a screen.
SHORT = ("retrained on halves", "this run, 10 % less")
#: A method is compared where it has this share of a kind's ground truths.
MOST = 0.8
Kinds = dict[str, Callable[[str], bool]]


def values(rows: Iterable[dict], method: str, key: str) -> dict[str, float]:
    """A method's measure by ground truth, where it has one."""
    return {r["truth"]: r[key] for r in rows
            if r["method"] == method and r.get(key) is not None}  # fmt: skip


def best(rows: list[dict], methods: Iterable[str], key: str) -> tuple[str, dict[str, float]]:
    """The method with the highest mean, of those that most ground truths were scored with."""
    found = {method: values(rows, method, key) for method in methods}
    most = MOST * max(map(len, found.values()), default=0)
    found = {method: own for method, own in found.items() if own and len(own) >= most}
    if not found:
        return "", {}
    return max(found.items(), key=lambda pair: float(np.mean(list(pair[1].values()))))


def which_method(rows: list[dict], kinds: Kinds, questions: Iterable[str] = QUESTIONS) -> Table:
    """The best method of each budget, with its mean over ground truths."""
    lines = []
    for kind, own in _by_kind(rows, kinds):
        for question in questions:
            key = QUESTIONS[question]
            cells = [_told(own, key, *best(own, methods, key)) for methods in BUDGETS.values()]
            if any(cell != "–" for cell in cells):
                lines.append([kind, question, *cells])
    return Table(["model", "question", *BUDGETS], lines, 2 + len(BUDGETS))


def _told(rows: list[dict], key: str, method: str, found: dict[str, float]) -> str:
    """A mean with its error over ground truths; of one, with its error over queries."""
    if not found:
        return "–"
    if len(found) > 1:
        return f"{method}: {mean_error(list(found.values()))} ({len(found)})"
    (truth, value), name = *found.items(), key.removesuffix("_over_ceiling")
    row = next(r for r in rows if r["method"] == method and r["truth"] == truth)
    error = row.get(f"{name}_error")
    if error is None:
        return f"{method}: {value:.2f}"
    return f"{method}: {value:.2f} ± {error / (row['ceiling'] if name != key else 1):.2f}"


def what_more_buys(rows: list[dict], kinds: Kinds) -> Table:
    """Paired differences of the best methods of two budgets, and of other libraries."""
    ours = {method for methods in BUDGETS.values() for method in methods}
    others = sorted({r["method"] for r in rows if ":" in r["method"]} - ours)
    pairs = {
        "final model − data": ("the final model", "the data"),
        "checkpoints − final model": ("checkpoints of its run", "the final model"),
        "recorded run − final model": ("the recorded run", "the final model"),
        "best of other libraries − final model": (None, "the final model"),
    }
    lines = []
    for kind, own in _by_kind(rows, kinds):
        for question, key in QUESTIONS.items():
            cells = []
            for more, less in pairs.values():
                upper = best(own, others if more is None else BUDGETS[more], key)
                cells.append(_difference(upper, best(own, BUDGETS[less], key), more is None))
            if any(cell != "–" for cell in cells):
                lines.append([kind, question, *cells])
    return Table(["model", "question", *pairs], lines, 2)


def _difference(upper: tuple, lower: tuple, named: bool) -> str:
    shared = sorted(upper[1].keys() & lower[1].keys())
    if not shared:
        return "–"
    gains = np.array([upper[1][truth] - lower[1][truth] for truth in shared])
    text = f"{mean_error(gains)} ({(gains > 0).sum()}/{len(gains)})"
    return f"{upper[0]}: {text}" if named else text


def _by_kind(rows: list[dict], kinds: Kinds) -> Iterable[tuple[str, list[dict]]]:
    for kind, has in kinds.items():
        own = [r for r in rows if has(r["truth"])]
        if own:
            yield kind, own
