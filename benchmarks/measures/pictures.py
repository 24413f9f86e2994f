"""Pictures of the docs, from results: ``python -m benchmarks draw STUDY FOLDER``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.measures import costs_by_size, libraries, uses
from benchmarks.peers import LIBRARIES, OURS

#: Okabe and Ito's colors, without yellow and black; markers beside them.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#882255",
           "#332288")  # fmt: skip
MARKERS = ("o", "s", "^", "v", "P", "X", "d", "*", "h")
STYLE = {name: {"color": PALETTE[i], "marker": MARKERS[i], "linestyle": "none"}
         for i, name in enumerate(LIBRARIES)}  # fmt: skip
#: method -> color, line, marker; what a reader chooses between
STYLES = {
    "GradDot": ("#0072B2", "-", "o"),
    "EK-FAC": ("#CC79A7", ":", "v"),
    "TRAK": ("#56B4E9", ":", "P"),
    "GGN, default λ": ("#D55E00", "--", "s"),
    "GGN, endpoint, default λ": ("#D55E00", "-", "D"),
    "GGN, matched λ": ("#009E73", "--", "^"),
    "GGN, matched λ, predicted end": ("#E69F00", "-", "X"),
    "GGN, matched λ, endpoint": ("#009E73", "-", "*"),
}


def draw(study: str, rows: list[dict], folder: Path) -> list[str]:
    """Write the pictures of a study; names of the files."""
    if study not in PICTURES:
        raise SystemExit(f"{study} has no picture; there are those of {', '.join(PICTURES)}.")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, figure in PICTURES[study](rows, plt).items():
        figure.savefig(folder / f"{name}.png", dpi=110)
        names.append(f"{name}.png")
    plt.close("all")
    return names


def removal(rows, plt) -> dict:
    """Accuracy against the share removed, a picture for each data set, a panel for each decay."""
    found = {}
    for data in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == data]
        decays = list(dict.fromkeys(r["decay"] for r in own))
        figure, axes = plt.subplots(1, len(decays), figsize=(2.6 + 4 * len(decays), 4.4),
                                    sharey=True, squeeze=False, layout="constrained")  # fmt: skip
        for ax, decay in zip(axes[0], decays, strict=True):
            _removed([r for r in own if r["decay"] == decay], ax)
            ax.set(xlabel="most helpful removed, %", title=f"weight decay {decay:g}")
        axes[0, 0].set_ylabel("test accuracy, %")
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
        found[f"removal_{data}"] = figure
    return found


def _removed(rows, ax) -> None:
    ways, colors = {"λ -> 0": ":", "default": "-", "ξ = 0.5": "--"}, {}
    names = [n for n in dict.fromkeys(r["method"] for r in rows) if n != "nothing removed"]
    for name in names:
        own = [r for r in rows if r["method"] in ("nothing removed", name)]
        shares = sorted({r["share"] for r in own})
        cells = [[100 * r["accuracy"] for r in own if r["share"] == s] for s in shares]
        errors = [np.std(c, ddof=1) / len(c) ** 0.5 if len(c) > 1 else 0 for c in cells]
        method, _, way = name.partition(", ")
        color = colors.setdefault(method, PALETTE[len(colors) % len(PALETTE)])
        marker = MARKERS[list(colors).index(method) % len(MARKERS)]
        ax.errorbar(
            [100 * s for s in shares], [np.mean(c) for c in cells], errors, color=color,
            linestyle=ways.get(way, "-."), marker=marker, markersize=4, capsize=2, label=name,
        )  # fmt: skip


def downstream(rows, plt) -> dict:
    """LDS and the accuracy after a removal over λ, a panel for each decay and curvature."""
    cells = list(dict.fromkeys((r["decay"], r["curvature"]) for r in rows if "at" in r))
    figure, axes = plt.subplots(len(cells) // 2, 2, figsize=(9, 1 + 1.6 * len(cells)), sharex=True,
                                sharey=True, squeeze=False, layout="constrained")  # fmt: skip
    for ax, cell in zip(axes.flat, cells, strict=True):
        own = [r for r in rows if (r["decay"], r["curvature"]) == cell]
        other = ax.twinx()
        sides = {"LDS": (ax, "lds"), "accuracy without 30 %": (other, "accuracy")}
        for (text, (side, key)), color in zip(sides.items(), PALETTE[:2], strict=True):
            at, values = uses.means(own, key)
            error = values.std(axis=0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
            side.errorbar(at, values.mean(axis=0), error, color=color, capsize=2)
            side.set_ylabel(text, color=color)
        other.set_ylim(0.6, 1.0)
        for choice, line in ((uses.DEFAULT, "-"), (uses.SELECTED, "--")):
            at = np.exp(np.mean([np.log(r["at"]) for r in own if r["choice"] == choice]))
            ax.axvline(at, color="0.5", linestyle=line, label=choice)
        ax.set(xscale="log", title=f"{cell[1]}, weight decay {cell[0]:g}")
    for ax in axes[-1]:
        ax.set_xlabel("λ / largest eigenvalue")
    axes[0, 0].legend(loc="lower left", fontsize="small")
    return {"downstream": figure}


def agreement(rows, plt) -> dict:
    """Cosine with further training, a panel for each data set and optimizer."""
    rows = [r for r in rows if "cosine" in r]
    names = list(dict.fromkeys(r["data"] for r in rows))
    figure, axes = plt.subplots(
        2, len(names), figsize=(2.6 * len(names), 6.2), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for i, j in np.ndindex(axes.shape):
        ax, optimizer = axes[i, j], ("sgd", "adam")[i]
        own = [r for r in rows if (r["data"], r["optimizer"]) == (names[j], optimizer)]
        if not own:
            ax.set_axis_off()
            continue
        horizons = own[0]["horizons"]
        ceiling = np.array(own[0]["ceiling"], dtype=float)  # None where halves disagree
        ax.fill_between(horizons, ceiling, 1.0, color="0.85", label="above the noise")
        for r in own:
            if r["method"] in STYLES:
                color, line, marker = STYLES[r["method"]]
                ax.errorbar(horizons, r["cosine"], r["cosine_se"], color=color, linestyle=line,
                            marker=marker, label=r["method"])  # fmt: skip
        ax.set(xscale="log", ylim=(0, 1.02), xlabel="epochs of further training")
        ax.set_xticks(horizons, [str(h) for h in horizons])
        ax.minorticks_off()
        ax.set_title(f"{names[j]}, {optimizer}", fontsize="medium")
    for ax in axes[:, 0]:
        ax.set_ylabel("cosine with further training")
    handles = {label: h for ax in axes.flat for h, label in
               zip(*ax.get_legend_handles_labels(), strict=True)}  # fmt: skip
    figure.legend(handles.values(), handles.keys(), ncols=3, loc="outside lower center")
    return {"agreement": figure}


def sensitivity(rows, plt) -> dict:
    """LDS against the damping; TRAK against the dimension; LoGra over rank and damping."""
    import pandas as pd

    from influencekit.displays import SensitivityDisplay

    tables = {
        name: pd.DataFrame([c for r in rows if r["problem"] == name for c in r["cells"]])
        for name in dict.fromkeys(r["problem"] for r in rows)
    }
    found, one = {}, {"n_models": 1, "checkpoint": "final"}
    wanted = {
        "sensitivity_damping": (next(iter(tables)), {"x": "damping", "others": one}),
        "sensitivity_projection": ("mnist", {"x": "projection_dim", "attributors": ["TRAK"],
                                             "hue": "damping", "others": one}),
        "sensitivity_logra": ("llama", {"x": "damping", "y": "curvature__rank",
                                        "attributors": ["LoGra"]}),
    }  # fmt: skip
    for name, (problem, options) in wanted.items():
        if problem in tables and options["x"] in tables[problem]:
            display = SensitivityDisplay(tables[problem], options.pop("x"), **options).plot()
            found[name] = display.figure_
    return found


def _legend(figure, shown) -> None:
    from matplotlib.lines import Line2D

    names = [name for name in LIBRARIES if name in shown]
    marks = [Line2D([], [], **STYLE[name]) for name in names]
    figure.legend(marks, names, loc="outside upper center", ncols=len(names), frameon=False)


def side_by_side(rows, plt) -> dict:
    """Seconds and memory of every library, a line a method; hollow: stopped."""
    found = {}
    for size in ("small", "large"):
        compared = libraries.comparisons(rows, size)
        if not compared:
            continue
        figure, axes = plt.subplots(1, 2, figsize=(9, 1.4 + 0.32 * len(compared)), sharey=True,
                                    layout="constrained")  # fmt: skip
        limit = max((r["seconds"] for r in rows if "seconds" in r), default=1)
        for ax, key in zip(axes, ("seconds", "peak_mb"), strict=True):
            for i, line in enumerate(compared):
                for library, row in {OURS: line["ours"], **line["others"]}.items():
                    if libraries.ok(row) and row[key]:
                        ax.plot(row[key], i, **STYLE[library])
                    elif row is not None and key == "seconds" and ">" in row.get("failed", ""):
                        ax.plot(limit, i, markerfacecolor="none", **STYLE[library])
            ax.set(xscale="log", xlabel={"seconds": "seconds", "peak_mb": "peak MB"}[key])
            ax.grid(color="0.85", linewidth=0.6)
        axes[0].set_yticks(range(len(compared)), [r["label"].split(" (")[0] for r in compared])
        axes[0].invert_yaxis()
        _legend(figure, {r["library"] for r in rows})
        found[f"bench_{size}"] = figure
    return found


def lds(rows, plt) -> dict:
    """LDS at the default (hollow) and the best damping (filled), with standard errors."""
    rows = [r for r in rows if libraries.ok(r) and "dampings" in r]
    labels = [v for k, v in libraries.LABELS.items() if any(r["method"] == k for r in rows)]
    figure, ax = plt.subplots(figsize=(8, 1.4 + 0.42 * len(labels)), layout="constrained")
    for row in rows:
        done = [d for d in row["dampings"] if d["status"] == "ok"]
        same = [r["library"] for r in rows if r["method"] == row["method"]]
        y = labels.index(libraries.LABELS[row["method"]])
        y += 0.16 * (same.index(row["library"]) - (len(same) - 1) / 2)
        for found in done:
            if found["default"]:
                ax.plot(found["lds"], y, markerfacecolor="none", **STYLE[row["library"]])
        if done:
            best = max(done, key=lambda d: d["lds"])
            ax.errorbar(best["lds"], y, xerr=best["standard_error"], **STYLE[row["library"]])
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlabel="LDS: hollow at the default damping, filled at the best")
    ax.invert_yaxis()
    ax.grid(color="0.85", linewidth=0.6)
    _legend(figure, {r["library"] for r in rows})
    return {"bench_lds": figure}


def scaling(rows, plt) -> dict:
    """Seconds, and per cent of the float32 peak, along n, m, p and the number of λ."""
    found = {}
    for name in ("bench_scaling", "bench_peak"):
        figure, axes = plt.subplots(2, 2, figsize=(8, 7.2), layout="constrained")
        for ax, (axis, text) in zip(axes.flat, costs_by_size.AXES.items(), strict=True):
            for i, (method, points) in enumerate(costs_by_size.series(rows, axis).items()):
                shares = [100 * (costs_by_size.share(p, rows) or 0) for p in points]
                values = [p["seconds"] for p in points] if name == "bench_scaling" else shares
                ax.plot([p["p" if axis == "width" else axis] for p in points], values,
                        color=PALETTE[i], marker=MARKERS[i],
                        label=costs_by_size.LABELS[method])  # fmt: skip
            ax.set(xscale="log", xlabel=text)
            ax.set_yscale("log" if name == "bench_scaling" else "linear")
            ax.set_ylabel("seconds" if name == "bench_scaling" else "% of the float32 peak")
            ax.grid(color="0.85", linewidth=0.6)
            if ax.lines:
                ax.legend(fontsize="x-small", frameon=False)
        found[name] = figure
    return found


def error_proxy(rows, plt) -> dict:
    """True error and proxy against the rate, the length, and wrong ideas of the run."""
    rows = [r for r in rows if r["part"] == "axes"]
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.8), sharey=True, layout="constrained")
    panels = {"learning rate": ("lr", {"epochs": 2}), "epochs": ("epochs", {"lr": 1e-3})}
    for i, activation in enumerate(dict.fromkeys(r["activation"] for r in rows)):
        own, style = [r for r in rows if r["activation"] == activation], {"color": PALETTE[i]}
        for ax, (axis, fixed) in zip(axes, panels.values(), strict=False):
            some = sorted((r for r in own if all(r[k] == v for k, v in fixed.items())),
                          key=lambda r: r[axis])  # fmt: skip
            x = [r[axis] for r in some]
            ax.plot(x, [r["true"] for r in some], marker=MARKERS[i], label=f"{activation}, true",
                    **style)  # fmt: skip
            ax.plot(x, [r["proxy"] for r in some], "--", label=f"{activation}, proxy", **style)
            bad = [r for r in some if not r["reliable"]]
            ax.plot([r[axis] for r in bad], [r["proxy"] for r in bad], "x", **style,
                    label=f"{activation}, not to be trusted")  # fmt: skip
        one = [r for r in own if (r["lr"], r["epochs"]) == (1e-3, 2)]
        names = ["true", "no decay", "constant rate", "taken for SGD"]
        for r in one:
            axes[2].plot(range(4), [r[n] for n in names], MARKERS[i], **style)
            axes[2].axhline(r["proxy"], linestyle="--", **style)
    for ax, name in zip(axes, panels, strict=False):
        ax.set(xscale="log", yscale="log", xlabel=name)
    axes[1].set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes[1].minorticks_off()
    axes[2].set_xticks(range(4), ["as it was", "no decay", "constant\nrate", "SGD"])
    axes[2].set(xlabel="the run is taken for", xlim=(-0.5, 3.5))
    axes[0].set_ylabel("median relative error")
    axes[0].legend(fontsize="x-small")
    return {"error_proxy": figure}


PICTURES = {"removal": removal, "downstream": downstream, "agreement": agreement,
            "sensitivity": sensitivity, "peers": side_by_side, "peers_lds": lds,
            "scaling": scaling, "error_proxy": error_proxy}  # fmt: skip
