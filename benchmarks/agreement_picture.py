"""The agreement of methods with further training, one panel a data set and optimizer.

Reads what ``bench_agreement.py --out FOLDER`` wrote::

    python benchmarks/agreement_picture.py FOLDER --png OUT.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

TITLES = {
    "concrete": "Concrete",
    "cifar2": "CIFAR-2",
    "sst2": "SST-2",
    "acs-ma": "ACSIncome MA",
    "acs-ca": "ACSIncome CA",
}
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


def draw(ax, row) -> None:
    horizons = row["horizons"]
    ax.fill_between(horizons, row["cosine_ceiling"], 1.0, color="0.85", label="above the noise")
    for name, (color, line, marker) in STYLES.items():
        found = row["methods"].get(name, {})
        if "cosine" in found:
            ax.errorbar(
                horizons,
                found["cosine"],
                found["cosine_se"],
                color=color,
                linestyle=line,
                marker=marker,
                label=name,
            )
    ax.set(xscale="log", ylim=(0, 1.02))
    ax.set_xticks(horizons, [str(h) for h in horizons])
    ax.minorticks_off()
    ax.set_xlabel("epochs of further training", fontsize="small")
    rule = {"sgd": "SGD", "adam": "Adam"}[row["optimizer"]]
    ax.set_title(f"{TITLES[row['data']]}, {rule}", fontsize="medium")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--png", type=Path, required=True)
    arguments = parser.parse_args()
    found = [json.loads(path.read_text()) for path in arguments.folder.glob("agreement_*.json")]
    rows = {(row["data"], row["optimizer"]): row for row in found}
    names = [name for name in TITLES if any(data == name for data, _ in rows)]
    figure, axes = plt.subplots(
        2,
        len(names),
        figsize=(2.6 * len(names), 6.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for i, j in np.ndindex(axes.shape):
        row = rows.get((names[j], ("sgd", "adam")[i]))
        if row is None:
            axes[i, j].set_axis_off()
        else:
            draw(axes[i, j], row)
    for ax in axes[:, 0]:
        ax.set_ylabel("cosine with further training")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, loc="outside lower center")
    figure.savefig(arguments.png, dpi=80)


if __name__ == "__main__":
    main()
