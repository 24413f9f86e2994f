"""Tables of the atlas: means over ground truths, and differences on the same ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from statistics import median

import numpy as np

from benchmarks.atlas import choice
from benchmarks.harness.tables import Table, mean_error, number, of

#: Kinds of models, by the end of a ground truth's name.
KINDS: dict[str, Callable[[str], bool]] = {
    "linear": lambda t: t.endswith("-linear"),
    "MLP": lambda t: t.endswith("-mlp"),
    "CNN": lambda t: t.endswith("-cnn"),
    "word vectors": lambda t: t.endswith("-words-net"),
    "language model": lambda t: t.endswith("-llama"),
    "boosting": lambda t: t.endswith("-boosting"),
}
NUMBERS = ("diabetes", "linnerud", "concrete", "randhie", "star98")
QUESTIONS = {"halves": "lds", "run, 10 %": "run_10", "run, 1 %": "run_1", "groups": "groups",
             "single rows": "single", "further": "further", "wrong labels": "wrong_labels",
             "shortcut": "shortcut", "copies": "copies", "top 10 different": "top_10"}  # fmt: skip
REFERENCE = "InfluenceFunction"


def tables(rows: list[dict]) -> dict[str, Table]:
    """Every table of the page."""
    done = [r for r in rows if "failed" not in r]
    nets = [r for r in done if is_classifying_net(r["truth"])]
    return {
        "by model": by_model(done, "lds_over_ceiling"),
        "by model, this run": by_model(done, "run_10"),
        "by question": by_question(nets),
        "paired, nets": paired(nets),
        "first rows left out": first_left_out(done),
        "which method": choice.which_method(done, KINDS),
        "which method, in short": choice.which_method(done, KINDS, choice.SHORT),
        "what more buys": choice.what_more_buys(done, KINDS),
        "cost": cost(done),
        "truths": truths(done),
        "why not": why_not(rows),
    }


def is_classifying_net(truth: str) -> bool:
    """Nets that every library can be given."""
    return truth.endswith(("-mlp", "-cnn")) and not truth.startswith(NUMBERS)


def by_model(rows: list[dict], key: str) -> Table:
    """Mean over ground truths with its standard error, a column a kind of model."""
    counts = {k: len({r["truth"] for r in rows if has(r["truth"])}) for k, has in KINDS.items()}
    counts = {k: count for k, count in counts.items() if count}
    lines = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        values = {k: of([r for r in own if KINDS[k](r["truth"])], key) for k in counts}
        lines.append([method, *(
            mean_error(v) + (f" ({len(v)})" if 0 < len(v) < counts[k] else "")
            for k, v in values.items()
        )])  # fmt: skip
    return Table(["method", *(f"{k} ({count})" for k, count in counts.items())], lines)


def by_question(rows: list[dict]) -> Table:
    """Means over ground truths, their number, and a column a question."""
    lines = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        values = (mean_error(of(own, key)) for key in QUESTIONS.values())
        lines.append([method, str(len(own)), *values])
    return Table(["method", "of", *QUESTIONS], lines)


def paired(rows: list[dict]) -> Table:
    """Difference to a reference on the same ground truths, and where it is above zero."""
    base = {r["truth"]: r for r in rows if r["method"] == REFERENCE}
    shown = {name: key for name, key in QUESTIONS.items() if key != "top_10"}
    lines = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method and r["truth"] in base]
        if method == REFERENCE or not own:
            continue
        cells = []
        for key in shown.values():
            both = [(r.get(key), base[r["truth"]].get(key)) for r in own]
            gains = np.array([a - b for a, b in both if a is not None and b is not None])
            wins = f" ({(gains > 0).sum()}/{len(gains)})" if len(gains) else ""
            cells.append(mean_error(gains) + wins)
        lines.append([method, *cells])
    return Table([f"minus {REFERENCE}", *shown], lines)


def first_left_out(rows: list[dict]) -> Table:
    """The slow tier: how queries change without the rows that a method puts first.

    Only ground truths that several methods have: one alone compares nothing.
    """
    kinds = {kind: KINDS[kind] for kind in ("linear", "MLP", "boosting")}
    rows = [r for r in rows if r.get("fall") is not None]
    times = Counter(r["truth"] for r in rows)
    rows = [r for r in rows if times[r["truth"]] > 1]
    most = {kind: choice.MOST * len({r["truth"] for r in rows if has(r["truth"])})
            for kind, has in kinds.items()}  # fmt: skip
    lines = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        by_kind = {kind: [r for r in own if has(r["truth"])] for kind, has in kinds.items()}
        cells = []
        for key in ("fall", "turned"):
            for kind, found in by_kind.items():
                values = of(found, key) if len(found) >= most[kind] else []
                cells.append(mean_error(values) + (f" ({len(values)})" if values else ""))
        lines.append([method, *cells])
    head = [f"{kind}, {measure}" for measure in ("fall", "turned") for kind in kinds]
    return Table(["method", *head], lines)


def cost(rows: list[dict]) -> Table:
    """CPU seconds and memory of scoring all queries, by kind of model."""
    lines = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        seconds = [of([r for r in own if has(r["truth"])], "cpu_seconds") for has in KINDS.values()]
        peak = of(own, "peak_mb")
        lines.append([method, *(number(median(s)) if s else "–" for s in seconds),
                      number(max(peak)) if peak else "–"])  # fmt: skip
    head = [f"{kind}, CPU s" for kind in KINDS]
    return Table(["method", *head, "most memory, MB"], lines)


def truths(rows: list[dict]) -> Table:
    """Every ground truth: ceiling, and the best LDS with its method."""
    lines = []
    for truth in dict.fromkeys(r["truth"] for r in rows):
        own = [r for r in rows if r["truth"] == truth]
        best = {key: max(own, key=lambda r: r[key]) for key in ("lds", "run_10")}
        lines.append([truth, f"{own[0]['ceiling']:.2f}",
                      *(f"{r[key]:.2f} ± {r[key + '_error']:.2f}, {r['method']}"
                        for key, r in best.items())])  # fmt: skip
    return Table(["ground truth", "ceiling", "best on halves", "best on this run, 10 %"], lines)


def why_not(rows: list[dict]) -> Table:
    """Methods without a score, with the reason and the number of ground truths."""
    reasons: dict[tuple[str, str], int] = {}
    for r in rows:
        if "failed" in r:
            key = r["method"], r["failed"].replace("|", "/")[:90]
            reasons[key] = reasons.get(key, 0) + 1
    return Table(["method", "reason", "ground truths"],
                 [[*key, str(count)] for key, count in reasons.items()], 2)  # fmt: skip
