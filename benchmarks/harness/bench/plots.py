"""Pictures of a run: dots a method, and log-log curves."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.bench.tables import (
    METHODS,
    SERIES,
    comparisons,
    lds_rows,
    ok,
    series,
    share,
    stopped,
)
from benchmarks.peers import LIBRARIES, OURS

#: Okabe and Ito's colors, without yellow and black; markers beside them.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#882255",
           "#332288")  # fmt: skip
MARKERS = ("o", "s", "^", "v", "P", "X", "d", "*", "h")
STYLE = {name: {"color": PALETTE[i], "marker": MARKERS[i]} for i, name in enumerate(LIBRARIES)}
WIDTH = 8.0


def _pyplot():
    import matplotlib.pyplot as plt

    return plt


def _save(figure, folder: Path, name: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=110)
    _pyplot().close(figure)
    return f"{name}.png"


def _legend(figure, libraries) -> None:
    """Libraries above the picture, with a filled marker however they were drawn."""
    from matplotlib.lines import Line2D

    shown = [name for name in LIBRARIES if name in libraries]
    marks = [Line2D([], [], linestyle="none", **STYLE[name]) for name in shown]
    figure.legend(marks, shown, loc="outside upper center", ncols=len(shown), frameon=False)


def side_by_side(document: dict, size: str, folder: Path) -> str | None:
    """Seconds and memory of every library, a line a method."""
    plt = _pyplot()
    rows = [
        row
        for row in comparisons(document, size)
        if any(ok(cell) for cell in [row["ours"], *row["others"].values()])
    ]
    if not rows:
        return None
    height = 1.4 + 0.32 * len(rows)
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH + 1, height), sharey=True, layout="constrained"
    )
    drawn: set[str] = set()
    labels = ("seconds; hollow: stopped", "peak MB")
    for ax, key, label in zip(axes, ("seconds", "peak_mb"), labels, strict=True):
        for i, row in enumerate(rows):
            for library, cell in {OURS: row["ours"], **row["others"]}.items():
                style = {"linestyle": "none", **STYLE[library]}
                if library == OURS:
                    style.update(zorder=3, markersize=8)
                if ok(cell) and cell[key]:
                    ax.plot(cell[key], i, **style)
                    drawn.add(library)
                elif key == "seconds" and stopped(cell):
                    ax.plot(document["plan"]["limit"], i, markerfacecolor="none", **style)
                    drawn.add(library)
        ax.set(xscale="log", xlabel=label)
        ax.grid(color="0.85", linewidth=0.6)
        ax.set_axisbelow(True)
    axes[0].set_yticks(range(len(rows)), [row["label"].split(" (")[0] for row in rows])
    axes[0].invert_yaxis()
    _legend(figure, drawn)
    return _save(figure, folder, f"bench_{size}")


def lds(document: dict, folder: Path) -> str | None:
    """LDS at the default (hollow) and the best damping (filled), with standard errors."""
    plt = _pyplot()
    rows = [row for row in lds_rows(document) if row.get("best")]
    if not rows:
        return None
    shown = {row["label"] for row in rows}
    labels = [label.split(" (theirs")[0] for label, *_ in METHODS]
    labels = [label for label in [*labels, "Nyström, Fisher"] if label in shown]
    figure, ax = plt.subplots(figsize=(WIDTH, 1.4 + 0.42 * len(labels)), layout="constrained")
    for row in rows:
        same = [r["library"] for r in rows if r["label"] == row["label"]]
        y = labels.index(row["label"]) + 0.16 * (same.index(row["library"]) - (len(same) - 1) / 2)
        style = {**STYLE[row["library"]], "linestyle": "none", "markersize": 6}
        best = row["best"]
        ax.errorbar(best["lds"], y, xerr=best["standard_error"], elinewidth=1, **style)
        if row["default"]["status"] == "ok" and not row["undamped"]:
            ax.plot(row["default"]["lds"], y, markerfacecolor="none", **style)
    ceiling = document["cells"].get("lds/truth", {}).get("ceiling")
    if ceiling:
        ax.axvline(ceiling, color="0.5", linestyle=":", linewidth=1.2)
        ax.annotate(
            "attainable", (ceiling, 1), xycoords=("data", "axes fraction"), xytext=(-4, -4),
            textcoords="offset points", ha="right", va="top", color="0.35", fontsize=9,
        )  # fmt: skip
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlabel="LDS: hollow at the default damping, filled at the best")
    ax.invert_yaxis()
    ax.grid(color="0.85", linewidth=0.6)
    ax.set_axisbelow(True)
    _legend(figure, {row["library"] for row in rows})
    return _save(figure, folder, "bench_lds")


AXES = (
    ("n", "n", "training rows n"),
    ("m", "m", "test rows m"),
    ("width", "p", "parameters p"),
    ("dampings", "dampings", "number of λ"),
)


def scaling(document: dict, folder: Path) -> str | None:
    """Seconds along n, m, p and the number of λ, both axes logarithmic."""
    return _four(document, folder, "bench_scaling", lambda cell: cell["seconds"])


def peak_share(document: dict, folder: Path) -> str | None:
    """Per cent of the float32 peak along n, m, p and the number of λ."""
    peak = document["cells"].get("peak")
    if not ok(peak):
        return None
    return _four(document, folder, "bench_peak", lambda cell: 100 * share(cell, peak))


def _four(document: dict, folder: Path, name: str, value) -> str | None:
    from matplotlib.ticker import FuncFormatter

    plt = _pyplot()
    found = {axis: series(document, axis) for axis, *_ in AXES}
    seconds = name == "bench_scaling"
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 7.2), layout="constrained")
    handles: dict[str, dict] = {"upper": {}, "lower": {}}
    for ax, (axis, key, text) in zip(axes.flat, AXES, strict=True):
        place = "lower" if axis == "dampings" else "upper"
        order = [m for m in SERIES if m.startswith(("xi", "lds")) == (place == "lower")]
        for method, cells in found[axis].items():
            i, dashed = order.index(method), method.endswith("after_gradients")
            (line,) = ax.plot(
                [cell[key] for cell in cells], [value(cell) for cell in cells],
                color=PALETTE[i], marker=MARKERS[i], linestyle="--" if dashed else "-",
                markersize=5,
            )  # fmt: skip
            handles[place].setdefault(SERIES[method], line)
        ax.set(xscale="log", xlabel=text)
        if seconds:
            ax.set(yscale="log", ylabel="seconds")
            low, high = ax.get_ylim()
            if high < 10 * low:  # a nearly constant cost should look like one
                ax.set_ylim(low / 10**0.5, high * 10**0.5)
            ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        else:
            ax.set_ylim(bottom=0)
            ax.set_ylabel("% of the float32 peak")
        ticks = sorted({cell[key] for cells in found[axis].values() for cell in cells})
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.grid(color="0.85", linewidth=0.6)
        ax.set_axisbelow(True)
    for place, lines in handles.items():
        where = {"loc": f"outside {place} center", "ncols": 5 if place == "upper" else 2}
        if lines:
            figure.legend(lines.values(), lines.keys(), frameon=False, fontsize=9, **where)
    return _save(figure, folder, name)
