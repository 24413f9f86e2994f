"""Pictures of the landing pages: ``python docs/_pictures.py [NAME ...]`` draws them in docs/images.

``wrong_answer``: a net's surest mistakes with their training images.  ``libraries`` and ``nets``:
what the kept results say of accuracy and seconds of every library.
"""

import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import RunAverage
from influencekit.displays import TopExamplesDisplay
from influencekit.training import KeepCheckpoints

IMAGES = Path(__file__).parent / "images"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
OURS = "influencekit"
MARKERS = {OURS: "o", "dattri": "s", "traker": "^", "kronfluence": "D", "pydvl": "v", "captum": "P"}
NETS = {"mlp": "an MLP", "cnn": "a CNN", "transformer": "a transformer"}
#: Methods by their names in the study of scores, where the study of times has another.
NAMES = {
    "TRAK, factored projection (theirs: dense)": "TRAK, factored projection",
    "TRAK, projected from two sides (theirs: dense)": "TRAK, projected from two sides",
    "Nyström, Gauss-Newton (theirs: Fisher)": "Nyström, Gauss-Newton",
}


def table(study: str, name: str) -> list[list[str]]:
    """Lines of a table that a study kept."""
    text = (RESULTS / f"{study}.json").read_text(encoding="utf-8")
    return json.loads(text)["tables"][name]["rows"]


def seconds() -> dict[tuple[str, str], float]:
    """Seconds of each method and library that ended, on the smaller net."""
    found = {}
    for method, ours, fastest, _, others in table("peers", "small"):
        for cell in (f"{OURS} {ours}", fastest, *others.split("; ")):
            taken = re.fullmatch(r"(\w+) ([\d.]+) \([\d,]+ MB\)", cell)
            if taken:
                found[NAMES.get(method, method), taken[1]] = float(taken[2])
    return found


def accuracy() -> dict[tuple[str, str], list[float | None]]:
    """LDS of each method and library, at its own damping and at the best one."""
    found = {}
    for method, library, *cells in table("peers_lds", "LDS"):
        scores = [re.match(r"([\d.]+) ±", cell) for cell in cells[:2]]
        found[method, library] = [float(score[1]) if score else None for score in scores]
    # theirs stands below its own matrix there, and beside ours in the study of times
    found["Nyström, Gauss-Newton", "pydvl"] = found["Nyström, Fisher", "pydvl"]
    return found


def libraries() -> None:
    """LDS against seconds, at each library's own damping and at the best one of a grid."""
    took, good = seconds(), accuracy()
    colors = plt.get_cmap("tab10").colors
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.9), sharey=True, layout="constrained")
    titles = ("each library's own damping", "the best damping for each")
    for which, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        for library, color in zip(MARKERS, colors, strict=False):
            points = [
                (took[key], good[key][which])
                for key in took
                if key[1] == library and key in good and good[key][which] is not None
            ]
            if not points:
                continue
            size = 64 if library == OURS else 40
            x, y = zip(*points, strict=True)
            style = {"marker": MARKERS[library], "edgecolors": "k", "lw": 0.5}
            ax.scatter(x, y, size, [color], label=library, **style)
        ax.set(xscale="log", xlabel="seconds for 500 × 5,000 scores", title=title)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
    axes[0].set(ylabel="accuracy: LDS against retraining", ylim=(0, 0.8))
    axes[1].legend(fontsize="small", loc="lower right")
    figure.savefig(IMAGES / "libraries.png", dpi=130)


def of_net(net: str) -> dict[str, list[tuple[float, float]]]:
    """CPU seconds and LDS at the best damping of each library's methods, on one kind of net."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows_of_nets(net):
        for method in row["methods"]:
            scored = [one for one in method["dampings"] if one["status"] == "ok"]
            if scored:
                best = max(scored, key=lambda one: one["lds"])
                found.setdefault(row["library"], []).append((best["cpu_seconds"], best["lds"]))
    return found


def rows_of_nets(net: str) -> list[dict]:
    """What the study of three nets kept of one, a row a library."""
    cells = json.loads((RESULTS / "peers_nets.json").read_text(encoding="utf-8"))["cells"]
    done = [
        cell for cell in cells.values() if cell["status"] == "ok" and cell["cell"]["net"] == net
    ]
    return [{**cell["cell"], **row} for cell in done for row in cell["rows"]]


def nets() -> None:
    """LDS against CPU seconds of an MLP, a CNN and a transformer, and what noise allows."""
    colors = plt.get_cmap("tab10").colors
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 3.6), sharey=True, layout="constrained")
    handles = {}
    for ax, (net, title) in zip(axes, NETS.items(), strict=True):
        found = of_net(net)
        for library, color in zip(MARKERS, colors, strict=False):
            if library in found:
                size = 64 if library == OURS else 40
                style = {"marker": MARKERS[library], "edgecolors": "k", "lw": 0.5}
                points = zip(*found[library], strict=True)
                handles[library] = ax.scatter(*points, size, [color], **style)
        line = ax.axhline(rows_of_nets(net)[0]["ceiling"], color="0.4", ls="--", lw=1)
        handles["noise ceiling"] = line
        ax.set(xscale="log", title=title)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
        missing = [library for library in MARKERS if library not in found]
        if missing:
            text = "\n".join(["no result:", *missing])
            ax.text(0.97, 0.03, text, fontsize="small", transform=ax.transAxes, ha="right")
    axes[0].set(ylabel="accuracy: LDS, best damping", ylim=(0, 1))
    axes[1].set(xlabel="CPU seconds for 300 × 1,000 scores")
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=4, fontsize="small",
    )  # fmt: skip
    figure.savefig(IMAGES / "libraries_nets.png", dpi=130)


def wrong_answer() -> None:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.float32), y, train_size=1000, stratify=y, random_state=0
    )
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)),
        criterion=nn.CrossEntropyLoss,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-3,
        lr=0.05,
        max_epochs=30,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[KeepCheckpoints(n=8)],
    )
    model = make_pipeline(MinMaxScaler(), net).fit(X_train, y_train)
    chance = model.predict_proba(X_test)
    margin = chance[np.arange(len(y_test)), y_test] - chance.max(1)
    wrong = np.argsort(margin)[:2]  # the surest mistakes
    display = TopExamplesDisplay.from_estimator(
        RunAverage().fit(model, X_train, y_train),
        X_train,
        X_test,
        y_train=y_train,
        y_query=y_test,
        rows=wrong,
        k=4,
        image_shape=(8, 8),
    )
    display.figure_.savefig(IMAGES / "wrong_answer.png", dpi=130)


DRAWN = {"wrong_answer": wrong_answer, "libraries": libraries, "nets": nets}

if __name__ == "__main__":
    for name in sys.argv[1:] or DRAWN:
        DRAWN[name]()
