"""Training on chosen rows: how far to look ahead, online and offline, at what cost.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_look_ahead.py --json FILE --png FILE

MNIST (2,000 images) or ACSIncome (4,000 people) with 20 or 30 percent uniformly wrong training
labels, a net of one hidden layer, AdamW.  The validation rows (200, right labels) are given to the
selection alone; accuracy is on 5,000 other rows.

- "none": all rows of each batch.  "none, equal cost": the same for as many epochs as the gradients
  of the dearest online selection below K = "full" would have paid for.
- "random": as many rows of each batch at random.
- "online K": LookAheadSelector, a share of each batch (--keep); "full" looks to the end of training
  and scores 8 steps at a time, the others score one.
- "offline K": score_then_retrain, the same share of all rows.
- "right labels": all rows with a right label, which nobody knows.

Costs are counted in gradients of single rows.  Standard errors are over seeds (rows, wrong
labels, net and order all drawn anew).
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from noisy_label_settings import MLP, Setting, flip_labels, make_setting
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.applications import LookAheadSelector, score_then_retrain
from influencekit.exceptions import InfluenceKitWarning

N_VAL = 200
N_TRAIN = {"mnist": 2000, "acs": 4000, "digits": 900}
#: Longer than any run.
FULL = 10**6


class RandomSelector(LookAheadSelector):
    """Keeps rows at random."""

    def _look(self, window, step, n_scored, horizon):
        batches = window.replay.trajectory.batches[step : step + n_scored]
        return [np.random.rand(len(rows)) for rows in batches]  # noqa: NPY002


def make_net(setting: Setting, options, lr: float, epochs: int, callbacks=()):
    """Net of one hidden layer, with a seed of its own."""
    n_classes = int(setting.y.max()) + 1
    return NeuralNetClassifier(
        MLP,
        module__n_features=setting.X.shape[1],
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=lr,
        batch_size=options.batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        classes=list(range(n_classes)),
        callbacks=list(callbacks),
        verbose=0,
    )


def one_seed(options, rate: float, lr: float, seed: int) -> list[dict]:
    """Accuracy and cost of every way."""
    n_train = N_TRAIN[options.data]
    setting = make_setting(options.data, seed, n_train + N_VAL, options.data_home)
    X, truth = setting.X[N_VAL:], setting.y[N_VAL:]
    validation = setting.X[:N_VAL], setting.y[:N_VAL]
    y = flip_labels(X, truth, rate, "uniform", seed)
    rows: list[dict] = []
    plain = len(X) * options.epochs
    random_keep = 1 - rate if options.keep == "helpful" else options.keep

    def fit(name: str, callbacks: Any = (), epochs: int = options.epochs, keep: Any = None) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        net = make_net(setting, options, lr, epochs, callbacks)
        own = (X, y) if keep is None else (X[keep], y[keep])
        net.fit(*own)
        found = dict(net.callbacks_).get("look_ahead")
        cost = len(own[0]) * epochs if found is None else found.n_gradients_
        wrong = None if found is None else float(found.n_kept_[y != truth].sum())
        wrong = None if wrong is None else wrong / float(found.n_kept_.sum())
        add(name, net, cost, wrong)

    def add(name: str, net: Any, cost: float, wrong: float | None) -> None:
        accuracy = float(net.score(setting.X_test, setting.y_test))
        print(
            f"{rate} lr {lr} seed {seed} {name:<18} {accuracy:.4f} {cost / plain:.1f}", flush=True
        )
        settings = {"rate": rate, "lr": lr, "seed": seed, "method": name}
        rows.append({**settings, "accuracy": accuracy, "cost": cost / plain, "wrong": wrong})

    fit("none")
    fit("right labels", keep=y == truth)
    fit("random", [("look_ahead", RandomSelector(*validation, 0, random_keep))])
    for horizon in options.horizons:
        full = horizon == "full"
        selector = LookAheadSelector(
            *validation,
            horizon=FULL if full else int(horizon),
            keep=options.keep,
            every=8 if full else 1,
        )
        fit(f"online {horizon}", [("look_ahead", selector)])
    online = [
        r["cost"] for r in rows if r["method"].startswith("online") and "full" not in r["method"]
    ]
    fit("none, equal cost", epochs=round(options.epochs * max(online, default=1)))
    for horizon in options.horizons:
        found = score_then_retrain(
            make_net(setting, options, lr, options.epochs),
            X,
            y,
            *validation,
            horizon=None if horizon == "full" else int(horizon),
            keep=options.keep,
            random_state=seed,
        )
        wrong = float((y != truth)[found.rows].mean())
        cost = 4 * plain + len(found.rows) * options.epochs
        add(f"offline {horizon}", found.estimator, cost, wrong)
    return rows


def table(found: list[dict]) -> list[dict]:
    """Means and standard errors over seeds."""
    rows = []
    for rate, lr, name in dict.fromkeys((r["rate"], r["lr"], r["method"]) for r in found):
        own = [r for r in found if (r["rate"], r["lr"], r["method"]) == (rate, lr, name)]
        values = np.array([r["accuracy"] for r in own])
        error = values.std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else None
        wrong = None if own[0]["wrong"] is None else float(np.mean([r["wrong"] for r in own]))
        rows.append(
            {
                "rate": rate,
                "lr": lr,
                "method": name,
                "accuracy": float(values.mean()),
                "standard_error": error,
                "cost": float(np.mean([r["cost"] for r in own])),
                "wrong": wrong,
            }
        )
    return rows


def show(rows: list[dict]) -> None:
    """Print a line for each way."""
    for rate, lr in dict.fromkeys((r["rate"], r["lr"]) for r in rows):
        print(f"\n{rate:.0%} wrong, lr {lr:g}: accuracy %, cost in plain trainings, wrong kept %")
        for row in rows:
            if (row["rate"], row["lr"]) == (rate, lr):
                error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2%}"
                wrong = "" if row["wrong"] is None else f"{row['wrong']:.1%}"
                accuracy = f"{row['accuracy']:.2%}{error}"
                print(f"{row['method']:<18} {accuracy:<18} {row['cost']:<8.1f} {wrong}")


def draw(rows: list[dict], path: Path) -> None:
    """Accuracy against the horizon, a panel for each share of wrong labels and rate."""
    import matplotlib.pyplot as plt

    from influencekit.displays._style import MARKERS, PALETTE

    panels = list(dict.fromkeys((r["rate"], r["lr"]) for r in rows))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 4.2), layout="constrained", squeeze=False
    )
    for ax, panel in zip(axes[0], panels, strict=True):
        own = [r for r in rows if (r["rate"], r["lr"]) == panel]
        for i, way in enumerate(("online", "offline")):
            cells = [r for r in own if r["method"].startswith(way + " ")]
            ax.errorbar(
                [r["method"].split()[1] for r in cells],
                [100 * r["accuracy"] for r in cells],
                [100 * (r["standard_error"] or 0) for r in cells],
                color=PALETTE[i],
                marker=MARKERS[i],
                capsize=2,
                label=way,
            )
        flat = [r for r in own if not r["method"].startswith(("online", "offline"))]
        for row, line in zip(flat, ("-", ":", "--", "-."), strict=True):
            ax.axhline(100 * row["accuracy"], color="0.45", linestyle=line, label=row["method"])
        title = f"{panel[0]:.0%} wrong labels, lr {panel[1]:g}"
        ax.set(xlabel="horizon K, steps", ylabel="test accuracy, %", title=title)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3 * len(panels), fontsize="small"
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run all, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--data", choices=list(N_TRAIN), default="mnist")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.3])
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--horizons", nargs="+", default=["0", "1", "2", "4", "8", "16", "full"])
    parser.add_argument("--keep", default="0.8", help="a share of each batch, or helpful")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--png", type=Path, default=None)
    options = parser.parse_args()
    options.keep = options.keep if options.keep == "helpful" else float(options.keep)
    warnings.simplefilter("ignore", InfluenceKitWarning)
    found = [
        row
        for rate in options.rates
        for lr in options.lrs
        for seed in range(options.seeds)
        for row in one_seed(options, rate, lr, seed)
    ]
    rows = table(found)
    show(rows)
    if options.json is not None:
        text = json.dumps({"data": options.data, "rows": rows, "runs": found}, indent=1)
        options.json.write_text(text, encoding="utf-8")
    if options.png is not None:
        draw(rows, options.png)


if __name__ == "__main__":
    main()
