"""Pictures of the docs, from results: ``python -m benchmarks draw STUDY FOLDER``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.harness.bench.plots import MARKERS, PALETTE

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
    """Accuracy against the share removed."""
    figure, ax = plt.subplots(figsize=(8.6, 4.4), layout="constrained")
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
    ax.set(xlabel="most helpful removed, %", ylabel="test accuracy, %")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
    return {"removal": figure}


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
        ax.fill_between(horizons, own[0]["ceiling"], 1.0, color="0.85", label="above the noise")
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


PICTURES = {"removal": removal, "agreement": agreement, "sensitivity": sensitivity}
