"""Markdown tables and sentences, all of their numbers from the results."""

from __future__ import annotations

from statistics import median

import numpy as np

from benchmarks.harness.tables import Table, number
from benchmarks.peers import OURS

BUSY = 0.25  # cores that others took: from here on a time is marked
MARK = "†"

#: Label, our method, that of the others.
METHODS = (
    ("Gradient products", "graddot", "graddot"),
    ("TracIn, three checkpoints", "tracin", "tracin"),
    ("TRAK, the same dense projection", "trak", "trak"),
    ("TRAK, factored projection (theirs: dense)", "trak_factored", "trak"),
    ("TRAK, projected from two sides (theirs: dense)", "trak_two_sided", "trak"),
    ("DataInf", "datainf", "datainf"),
    ("DataInf, all layers at once", "datainf_full", "datainf_full"),
    ("K-FAC, drawn labels", "kfac", "kfac"),
    ("EK-FAC, drawn labels", "ekfac", "ekfac"),
    ("K-FAC, all labels", "kfac_true", "kfac_true"),
    ("EK-FAC, all labels", "ekfac_true", "ekfac_true"),
    ("K-FAC, given labels", "kfac_empirical", "kfac_empirical"),
    ("EK-FAC, given labels", "ekfac_empirical", "ekfac_empirical"),
    ("Hessian", "explicit", "explicit"),
    ("Gauss-Newton", "ggn", "ggn"),
    ("Fisher, given labels", "fisher", "fisher"),
    ("Conjugate gradients, Hessian", "cg", "cg"),
    ("LiSSA, Hessian", "lissa", "lissa"),
    ("Arnoldi, Hessian", "arnoldi", "arnoldi"),
    ("Nyström, Gauss-Newton (theirs: Fisher)", "nystroem", "nystroem_fisher"),
    ("Nyström, Hessian", "nystroem_hessian", "nystroem_hessian"),
    ("TRAK, no projection", "trak_exact", "trak_exact"),
)
#: Labels of the scaling series.
SERIES = {
    "graddot": "GradDot",
    "ekfac": "EK-FAC",
    "ggn": "GGN, 512 dimensions",
    "trak": "TRAK, dense projection",
    "trak_two_sided": "TRAK, two-sided",
    "xi": "ξ, from the fitted net on",
    "lds": "LDS, from the fitted net on",
    "xi_after_gradients": "ξ, after the gradients",
    "lds_after_gradients": "LDS, after the gradients",
}


def table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    return Table(head, rows, left).markdown()


def ok(cell: dict | None) -> bool:
    return cell is not None and cell["status"] == "ok"


def stopped(cell: dict | None) -> bool:
    """Whether it took longer than the limit, or was not tried since a smaller one did."""
    return cell is not None and cell["status"].startswith((">", "not run: >"))


def busy(cell: dict) -> bool:
    return (cell.get("other_cores") or 0) > BUSY


def mark(cell: dict) -> str:
    return MARK if busy(cell) else ""


def reason(status: str) -> str:
    """A status as one cell of a table."""
    return status.replace("|", "/").replace("\n", " ")[:110]


# ---- side by side -------------------------------------------------------------------------


def comparisons(document: dict, size: str) -> list[dict]:
    """For every method its cells: ours, and the others' by library."""
    found = []
    libraries = [name for name in document["libraries"] if name != OURS]
    for label, own, theirs in METHODS:
        cells = document["cells"]
        ours = cells.get(f"peers/{size}/{own}/{OURS}")
        others = {
            library: cells[f"peers/{size}/{theirs}/{library}"]
            for library in libraries
            if f"peers/{size}/{theirs}/{library}" in cells
        }
        if ours is not None or (others and own == theirs):
            same = "(theirs: dense)" not in label
            found.append({"label": label, "ours": ours, "others": others, "same_work": same})
    return found


def fastest(others: dict[str, dict], key: str = "seconds") -> str | None:
    done = {name: cell[key] for name, cell in others.items() if ok(cell) and cell[key] is not None}
    return min(done, key=done.get) if done else None


def _cell(cell: dict | None, name: str = "") -> str:
    if cell is None:
        return "-"
    if not ok(cell):
        short = "failed" if cell["status"].startswith("failed") else cell["status"].split(":")[0]
        return f"{name} {reason(short)}".strip()
    memory = "" if cell["peak_mb"] is None else f" ({cell['peak_mb']:,.0f} MB)"
    return f"{name} {number(cell['seconds'])}{mark(cell)}{memory}".strip()


def side_by_side(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        best = fastest(row["others"])
        rest = [_cell(cell, name) for name, cell in row["others"].items() if name != best]
        ratio = "-"
        if best and ok(row["ours"]):
            ratio = number(row["others"][best]["seconds"] / row["ours"]["seconds"])
        first = _cell(row["others"].get(best), best or "")
        lines.append([row["label"], _cell(row["ours"]), first, ratio, "; ".join(rest)])
    head = ["method", "ours: s (peak)", "fastest other: s (peak)", "ratio", "others"]
    return table(head, lines)


def ratios(rows: list[dict], key: str) -> dict[str, float]:
    """The least of the others' seconds or memory over ours, of the same work."""
    found = {}
    for row in rows:
        best = fastest(row["others"], key)
        if best and row["same_work"] and ok(row["ours"]) and row["ours"][key]:
            found[row["label"]] = row["others"][best][key] / row["ours"][key]
    return found


def side_by_side_sentence(rows: list[dict]) -> str:
    speed, memory = ratios(rows, "seconds"), ratios(rows, "peak_mb")
    if not speed:
        return "No method was finished by influencekit and another library."
    slower = [f"{name} ({number(value)})" for name, value in speed.items() if value < 1]
    least, most = min(speed, key=speed.get), max(speed, key=speed.get)
    text = (
        f"influencekit took less time than the fastest other library in "
        f"{sum(value > 1 for value in speed.values())} of {len(speed)} comparisons of the same "
        f"work that both finished: the ratio is {number(median(speed.values()))} in the median, "
        f"{number(speed[least])} at the least ({least}), {number(speed[most])} at the most "
        f"({most}); "
        f"it is at least 10 in {sum(value >= 10 for value in speed.values())} of them. "
    )
    without = [cell for row in rows if row["same_work"] for cell in row["others"].values()]
    stops, others = sum(map(stopped, without)), sum(not ok(cell) for cell in without)
    text += f"Of {len(without)} runs of other libraries {stops} passed the limit"
    text += f" and {others - stops} had no result. " if others > stops else ". "
    if slower:
        text += f"Another library was faster in: {', '.join(slower)}. "
    if memory:
        more = [f"{name} ({number(value)})" for name, value in memory.items() if value < 1]
        text += (
            f"It held less memory than the most sparing other library in "
            f"{len(memory) - len(more)} of {len(memory)}"
        )
        text += f"; not in: {', '.join(more)}." if more else "."
    return text.strip()


# ---- linear datamodeling score --------------------------------------------------------------


def lds_rows(document: dict) -> list[dict]:
    """Of every method and library: default and best of the dampings."""
    found = []
    libraries, cells = document["libraries"], document["cells"]
    for label, own, theirs in METHODS:
        for library in libraries:
            method = own if library == OURS else theirs
            if library != OURS and own != theirs and own.startswith("trak"):
                continue  # the others' TRAK has a line of its own
            cell = cells.get(f"lds/{method}/{library}")
            if cell is None:
                continue
            row = {"label": label.split(" (theirs")[0], "library": library, "cell": cell}
            if library != OURS and "(theirs: Fisher)" in label:
                row["label"] = "Nyström, Fisher"
            if ok(cell):
                done = [r for r in cell["rows"] if r["status"] == "ok"]
                row["default"] = next(r for r in cell["rows"] if r["default"])
                row["best"] = max(done, key=lambda r: r["lds"], default=None)
                row["undamped"] = len(cell["rows"]) == 1
            found.append(row)
    return found


def _lds(found: dict | None) -> str:
    if found is None:
        return "none defined"
    if found["status"] != "ok":
        return reason(found["status"])
    return f"{found['lds']:.3f} ± {found['standard_error']:.3f}"


def lds_table(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        what = [row["label"], row["library"]]
        if not ok(row["cell"]):
            lines.append([*what, reason(row["cell"]["status"]), "", ""])
            continue
        best, damping = row["best"], "-"
        if best is not None and not row["undamped"]:
            damping = "default" if best["default"] else f"{best['damping']:g}"
        lines.append([*what, _lds(row["default"]), _lds(best), damping])
    return table(["method", "library", "LDS at the default", "LDS at the best", "best λ"], lines, 2)


def lds_sentence(rows: list[dict]) -> str:
    """How often ours is highest, or within two standard errors of it."""
    text = []
    for name, kind in (("their default dampings", "default"), ("the best damping", "best")):
        total, behind = 0, []
        by_label: dict[str, dict[str, dict]] = {}
        for row in rows:
            found = row.get(kind)
            if found and found["status"] == "ok":
                by_label.setdefault(row["label"], {})[row["library"]] = found
        for label, found in by_label.items():
            if OURS not in found or len(found) == 1:
                continue
            total += 1
            top = max(found.values(), key=lambda r: r["lds"])
            error = np.hypot(top["standard_error"], found[OURS]["standard_error"])
            if found[OURS]["lds"] < top["lds"] - 2 * error:
                behind.append(f"{label} ({found[OURS]['lds']:.3f} against {top['lds']:.3f})")
        if total:
            text.append(
                f"at {name} influencekit is highest, or within two standard errors of it, in "
                f"{total - len(behind)} of {total} methods that others have too"
                + (f", not in {', '.join(behind)}" if behind else "")
            )
    if not text:
        return ""
    sentence = "; ".join(text) + "."
    return sentence[0].upper() + sentence[1:]


# ---- agreement --------------------------------------------------------------------------------


def agreement_table(document: dict) -> str:
    cell = document["cells"]["agreement"]
    libraries, labels = list(document["libraries"]), {own: label for label, own, _ in METHODS}
    labels["nystroem_fisher"] = "Nyström, Fisher"
    by_method: dict[str, dict[str, str]] = {}
    for row in cell["rows"]:
        text = f"{row['pearson']:.6f}" if "pearson" in row else "undefined"
        by_method.setdefault(row["method"], {})[row["library"]] = text
    order = [*labels, *[name for name in by_method if name not in labels]]
    lines = [
        [labels.get(name, name).split(" (theirs")[0]]
        + [by_method[name].get(library, "") for library in libraries]
        for name in order
        if name in by_method
    ]
    return table(["method", *libraries], lines)


# ---- scaling ----------------------------------------------------------------------------------


def series(document: dict, axis: str) -> dict[str, list[dict]]:
    """Points along one axis, by method, the others at the base."""
    base = {**document["plan"]["base"], "dampings": 1}
    found: dict[str, list[dict]] = {}
    for key, cell in document["cells"].items():
        if not key.startswith("scaling/") or not ok(cell):
            continue
        method = key.split("/")[1]
        fixed = [name for name in base if name != axis]
        if any(cell[name] != base[name] for name in fixed):
            continue
        if (axis == "dampings") == (method in document["plan"]["scaling"]):
            continue
        found.setdefault(method, []).append(cell)
    order = [name for name in SERIES if name in found]
    points = {name: sorted(found[name], key=lambda cell: cell[axis]) for name in order}
    return {name: cells for name, cells in points.items() if len(cells) > 1}


def slope(cells: list[dict], axis: str) -> float:
    """Exponent of the cost between the last two points."""
    last, before = cells[-1], cells[-2]
    value = "p" if axis == "width" else axis
    return float(np.log(last["seconds"] / before["seconds"]) / np.log(last[value] / before[value]))


def share(cell: dict, peak: dict) -> float:
    return cell["flops"] / cell["seconds"] / peak["flops_per_second"]["float32"]


def scaling_table(document: dict) -> str:
    """Smallest and largest point of each series, its exponent, and the share of the peak."""
    names = {"n": "n", "m": "m", "width": "p", "dampings": "number of λ"}
    peak, lines = document["cells"].get("peak"), []
    for axis, name in names.items():
        for method, cells in series(document, axis).items():
            value = "p" if axis == "width" else axis
            ends = cells[0], cells[-1]
            lines.append(
                [
                    name,
                    SERIES[method],
                    " to ".join(f"{cell[value]:,}" for cell in ends),
                    " to ".join(number(cell["seconds"]) + mark(cell) for cell in ends),
                    f"{slope(cells, axis):.2f}",
                    " to ".join(number(cell["flops"] / 1e9) for cell in ends),
                    " to ".join(f"{100 * share(cell, peak):.0f}" for cell in ends)
                    if ok(peak)
                    else "-",
                ]
            )
    head = ["along", "method", "from, to", "seconds", "exponent", "Gflop", "% of peak"]
    return table(head, lines, 2)


def scaling_sentence(document: dict) -> str:
    peak = document["cells"].get("peak")
    if not ok(peak):
        return ""
    best: dict[str, float] = {}
    for axis in ("n", "m", "width"):
        for method, cells in series(document, axis).items():
            best[method] = max([best.get(method, 0), *(share(cell, peak) for cell in cells)])
    if not best:
        return ""
    parts = [f"{SERIES[name]} {100 * value:.0f} %" for name, value in best.items()]
    return f"The most that each reached of the float32 peak: {', '.join(parts)}."


def formula_sentence(document: dict) -> str:
    """How near the counter is to the formulas."""
    found = [
        cell["flops"] / cell["flops_formula"]
        for key, cell in document["cells"].items()
        if key.startswith("scaling/") and ok(cell) and cell["flops_formula"]
    ]
    if not found:
        return ""
    return (
        "For the methods that have a formula in `benchmarks/measures/costs_by_size.py` (GradDot, "
        f"and TRAK with a dense projection) the count is {min(found):.3f} to {max(found):.3f} "
        f"times the formula in {len(found)} cells."
    )
