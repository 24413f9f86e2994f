"""Libraries side by side: which methods are the same work, and tables of them."""

from __future__ import annotations

from statistics import median

from benchmarks.harness.tables import Table, number, short
from benchmarks.peers import LIBRARIES, OURS

BUSY, MARK = 0.25, "†"  # cores that others took: from here on a time is marked

#: Our method: its label, and that of the others.
METHODS = {
    "graddot": ("Gradient products", "graddot"),
    "tracin": ("TracIn, three checkpoints", "tracin"),
    "trak": ("TRAK, the same dense projection", "trak"),
    "trak_factored": ("TRAK, factored projection (theirs: dense)", "trak"),
    "trak_two_sided": ("TRAK, projected from two sides (theirs: dense)", "trak"),
    "datainf": ("DataInf", "datainf"),
    "datainf_full": ("DataInf, all layers at once", "datainf_full"),
    "kfac": ("K-FAC, drawn labels", "kfac"),
    "ekfac": ("EK-FAC, drawn labels", "ekfac"),
    "kfac_true": ("K-FAC, all labels", "kfac_true"),
    "ekfac_true": ("EK-FAC, all labels", "ekfac_true"),
    "kfac_empirical": ("K-FAC, given labels", "kfac_empirical"),
    "ekfac_empirical": ("EK-FAC, given labels", "ekfac_empirical"),
    "explicit": ("Hessian", "explicit"),
    "ggn": ("Gauss-Newton", "ggn"),
    "fisher": ("Fisher, given labels", "fisher"),
    "cg": ("Conjugate gradients, Hessian", "cg"),
    "lissa": ("LiSSA, Hessian", "lissa"),
    "arnoldi": ("Arnoldi, Hessian", "arnoldi"),
    "nystroem": ("Nyström, Gauss-Newton (theirs: Fisher)", "nystroem_fisher"),
    "nystroem_hessian": ("Nyström, Hessian", "nystroem_hessian"),
    "trak_exact": ("TRAK, no projection", "trak_exact"),
}
LABELS = {own: label.split(" (theirs")[0] for own, (label, _) in METHODS.items()}
LABELS["nystroem_fisher"] = "Nyström, Fisher"


def ok(row: dict | None) -> bool:
    return row is not None and "failed" not in row


def reason(row: dict) -> str:
    """Why there is no result, as one cell of a table."""
    return row["failed"].replace("|", "/").replace("\n", " ")[:110]


def comparisons(rows: list[dict], size: str) -> list[dict]:
    """For every method its rows: ours, and the others' by library."""
    cells = {(r["method"], r["library"]): r for r in rows if r["size"] == size}
    found = []
    for own, (label, theirs) in METHODS.items():
        others = {n: cells[theirs, n] for n in LIBRARIES if n != OURS and (theirs, n) in cells}
        ours = cells.get((own, OURS))
        if ours is not None or (others and own == theirs):
            same = "(theirs: dense)" not in label
            found.append({"label": label, "ours": ours, "others": others, "same_work": same})
    return found


def fastest(others: dict[str, dict], key: str = "seconds") -> str | None:
    done = {name: row[key] for name, row in others.items() if ok(row) and row[key] is not None}
    return min(done, key=done.get) if done else None


def _cell(row: dict | None, name: str = "") -> str:
    if row is None:
        return "-"
    if not ok(row):
        text = reason(row)
        short_text = "failed" if text.startswith("failed") else text.split(":")[0]
        return f"{name} {short_text}".strip()
    memory = "" if row["peak_mb"] is None else f" ({row['peak_mb']:,.0f} MB)"
    busy = MARK if (row.get("other_cores") or 0) > BUSY else ""
    return f"{name} {number(row['seconds'])}{busy}{memory}".strip()


def side_by_side(compared: list[dict]) -> Table:
    lines = []
    for row in compared:
        best = fastest(row["others"])
        rest = [_cell(cell, name) for name, cell in row["others"].items() if name != best]
        both = best and ok(row["ours"])
        ratio = number(row["others"][best]["seconds"] / row["ours"]["seconds"]) if both else "-"
        first = _cell(row["others"].get(best), best or "")
        lines.append([row["label"], _cell(row["ours"]), first, ratio, "; ".join(rest)])
    head = ["method", "ours: s (peak)", "fastest other: s (peak)", "ratio", "others"]
    return Table(head, lines)


def ratios(compared: list[dict], key: str) -> dict[str, float]:
    """The least of the others' seconds or memory over ours, of the same work."""
    found = {}
    for row in compared:
        best = fastest(row["others"], key)
        if best and row["same_work"] and ok(row["ours"]) and row["ours"][key]:
            found[row["label"]] = row["others"][best][key] / row["ours"][key]
    return found


def summary(by_size: dict[str, list[dict]]) -> Table:
    """How often ours took less time or memory, and what the others' runs came to."""
    lines = []
    for size, compared in by_size.items():
        others = [r for row in compared if row["same_work"] for r in row["others"].values()]
        ends = f"{sum(not ok(r) for r in others)} of {len(others)}"
        for key in ("seconds", "peak_mb"):
            found = ratios(compared, key)
            if found:
                least, most = min(found, key=found.get), max(found, key=found.get)
                ahead = f"{sum(v > 1 for v in found.values())} of {len(found)}"
                ten = str(sum(v >= 10 for v in found.values()))
                numbers = [number(median(found.values())), f"{number(found[least])} ({least})",
                           f"{number(found[most])} ({most})"]  # fmt: skip
                name = {"seconds": "seconds", "peak_mb": "memory"}[key]
                lines.append([size, name, ahead, *numbers, ten, ends])
    head = ["net", "of", "ours less in", "ratio: median", "least", "most", "10 or more",
            "others without a result"]  # fmt: skip
    return Table(head, lines, 2)


def without_result(rows: list[dict]) -> Table:
    """Cells that failed or were stopped, and why."""
    lines = []
    for row in rows:
        if "failed" in row:
            name = "/".join(str(row[k]) for k in ("size", "method", "library") if k in row)
            lines.append([f"`{name}`", reason(row)])
    return Table(["cell", "why"], lines, 2)


def lds_table(rows: list[dict]) -> Table:
    """Of every method and library: LDS at the default damping and at the best."""
    lines = []
    for own, label in LABELS.items():
        for row in rows:
            if row["method"] != own:
                continue
            what = [label, row["library"]]
            if not ok(row):
                lines.append([*what, reason(row), "", ""])
                continue
            default = next(d for d in row["dampings"] if d["default"])
            done = [d for d in row["dampings"] if d["status"] == "ok"]
            best = max(done, key=lambda d: d["lds"], default=None)
            damping = "-"
            if best is not None and len(row["dampings"]) > 1:
                damping = "default" if best["default"] else f"{best['damping']:g}"
            lines.append([*what, _lds(default), _lds(best), damping])
    head = ["method", "library", "LDS at the default", "LDS at the best", "best λ"]
    return Table(head, lines, 2)


def lds_and_seconds(rows: list[dict]) -> Table:
    """Of every method of every library: LDS and CPU seconds, at its own damping and at the best."""
    lines = [[row["library"], reason(row), *6 * [""]] for row in rows if not ok(row)]
    found = {(one["method"], row["library"]): one["dampings"]
             for row in rows if ok(row) for one in row["methods"]}  # fmt: skip
    for own, label in LABELS.items():
        for library in LIBRARIES:
            if (own, library) in found:
                lines.append([label, library, *_own_and_best(found[own, library])])
    head = [
        "method",
        "library",
        "LDS, own damping",
        "CPU s",
        "LDS, best damping",
        "CPU s",
        "best λ",
    ]
    return Table(head, lines, 2)


def best_of_nets(rows: list[dict]) -> Table:
    """A line a net: the best LDS of ours and of all others, and who is faster at the same work."""
    lines = []
    for net in dict.fromkeys(row["net"] for row in rows):
        done = [row for row in rows if row["net"] == net and ok(row)]
        points = {(one["method"], row["library"]): best for row in done for one in row["methods"]
                  if (best := _best(one["dampings"])) is not None}  # fmt: skip
        if points:
            about = [net, f"{done[0]['p']:,}", short(done[0]["accuracy"], 3)]
            about.append(short(done[0]["ceiling"], 3))
            lines.append([*about, *_two_bests(points), _faster(points)])
    head = ["net", "p", "accuracy", "noise ceiling", "best of ours", "best of the others",
            "same method: ours faster"]  # fmt: skip
    return Table(head, lines)


def _best(tried: list[dict]) -> dict | None:
    done = [one for one in tried if one["status"] == "ok"]
    return max(done, key=lambda one: one["lds"], default=None)


def _two_bests(points: dict[tuple[str, str], dict]) -> list[str]:
    texts = []
    for ours in (True, False):
        some = {key: found for key, found in points.items() if (key[1] == OURS) == ours}
        key = max(some, key=lambda key: some[key]["lds"], default=None)
        if key is None:
            texts.append("-")
            continue
        name = LABELS[key[0]] if ours else f"{LABELS[key[0]]} ({key[1]})"
        found = some[key]
        texts.append(f"{name}: {short(found['lds'], 3)} in {number(found['cpu_seconds'])} s")
    return texts


def _faster(points: dict[tuple[str, str], dict]) -> str:
    """In how many methods that others have too ours took fewer CPU seconds than every other."""
    times = {key: found["cpu_seconds"] for key, found in points.items()}
    shared = {method for method, library in times if library != OURS and (method, OURS) in times}
    ahead = sum(
        all(times[method, OURS] < taken for (other, name), taken in times.items()
            if other == method and name != OURS)
        for method in shared
    )  # fmt: skip
    return f"{ahead} of {len(shared)}"


def _own_and_best(tried: list[dict]) -> list[str]:
    best = _best(tried)
    name = "-"
    if best is not None and len(tried) > 1:
        name = "default" if best["default"] else f"{best['damping']:g}"
    return [_lds(tried[0]), _seconds(tried[0]), _lds(best), _seconds(best), name]


def _seconds(found: dict | None) -> str:
    return "-" if found is None or "cpu_seconds" not in found else number(found["cpu_seconds"])


def _lds(found: dict | None) -> str:
    if found is None:
        return "none defined"
    if found["status"] != "ok":
        return found["status"].replace("|", "/")[:110]
    return f"{short(found['lds'], 3)} ± {short(found['standard_error'], 3)}"


def agreement_table(rows: list[dict]) -> Table:
    """Correlation with the dense formula, a column a library."""
    libraries = [name for name in LIBRARIES if any(r["library"] == name for r in rows)]
    lines = []
    for own, label in LABELS.items():
        cells = {r["library"]: r for r in rows if r["method"] == own}
        texts = [_correlation(cells.get(name)) for name in libraries]
        if cells:
            lines.append([label, *texts])
    return Table(["method", *libraries], lines)


def _correlation(row: dict | None) -> str:
    if row is None:
        return ""
    if not ok(row):
        return "failed"
    return f"{row['pearson']:.6f}" if "pearson" in row else "undefined"
