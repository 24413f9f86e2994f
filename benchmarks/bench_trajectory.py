"""Which method predicts the effect of leaving an example out of a training run with AdamW.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_trajectory.py --json FILE --png FILE

The truth is trajectory-specific leave-one-out in float64: the same run again (start, batches,
rates) without one example.  The measure is the Spearman correlation over the left-out examples,
averaged over the test examples, then over seeds; standard errors are over seeds.

Each learning rate is run twice: "plain", a constant rate without weight decay, and "scheduled",
a rate that falls along a cosine and weight decay 1.  Of the second kind it is also measured what
a method loses that takes the rate for constant, or the decay for absent.

Settings: mnist (784-16-16-10 net, ReLU or another --activation, 6,000 images, one epoch, batch 64,
200 examples left out, 500 test images), cifar2 (two convolutions, 16 x 16 pixels), llama
(260,032 parameters, passages of 32 tokens).

The threshold of the error proxy (kind "kinks") is fixed on the first seed of each rate: the
largest ratio up to which the scores of the examples have a Spearman correlation of .95 there;
where there is none, the ratio of the best tenth.  The other seeds show what becomes of it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from torch import nn
from trajectory_baselines import AdamWInfluence, scores
from trajectory_settings import SETTINGS, make_run

from influencekit.training import trajectory_leave_one_out

#: What scores that are called trusted should reach, and the fewest examples that say so.
TRUSTED, FEWEST = 0.95, 20
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


def one_run(options, size, lr: float, seed: int, scheduled: bool) -> dict:
    """Correlation of every method with the reruns of one run."""
    run = make_run(options.setting, size, lr, seed, options.data_home, scheduled)
    data = run.X, run.y, run.X_test, run.y_test
    start = time.perf_counter()
    truth = trajectory_leave_one_out(
        run.task,
        *data,
        left_out=run.left_out,
        trajectory=run.trajectory,
        cache_dir=options.cache_dir,
        verbose=1,
    )
    seconds = time.perf_counter() - start
    tables = scores(run, scheduled)
    found = {name: truth.spearman(table).mean for name, table in tables.items()}
    best = tables["AdamW, hessian"]
    error = np.linalg.norm(best - truth.scores) / np.linalg.norm(truth.scores)
    kind = "scheduled" if scheduled else "plain"
    print(f"lr {lr:g}, seed {seed}, {kind}: reruns {seconds:.0f} s, {truth}", flush=True)
    result = {
        "lr": lr,
        "seed": seed,
        "kind": kind,
        "spearman": found,
        "unresolved": truth.unresolved,
        "relative_error": float(error),
    }
    if options.proxy and not scheduled:
        result["proxy"] = proxy(run)
        result["tables"] = best, truth.scores
    return result


def proxy(run) -> np.ndarray:
    """Ratio of what kinks are estimated to change and the score, for each left-out example."""
    attributor = AdamWInfluence(trajectory=run.trajectory).fit(run.task, run.X, run.y)
    checked = attributor.taylor_error_proxy(
        run.X_test, run.y_test, left_out=run.left_out, kind="kinks"
    )
    return checked.of_examples


def correlation(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over test examples of Spearman's correlation over the left-out ones."""
    each = [spearmanr(a, b).statistic for a, b in zip(scores, truth, strict=True)]
    return float(np.nanmean(each))


def threshold_of(run: dict) -> float:
    """The largest ratio up to which a run's scores can be trusted."""
    order = np.argsort(run["proxy"], kind="stable")
    counts = range(len(order), max(FEWEST, len(order) // 10) - 1, -max(1, len(order) // 40))
    for count in counts:
        rows = order[:count]
        if correlation(*(t[:, rows] for t in run["tables"])) >= TRUSTED:
            break
    return float(run["proxy"][order[count - 1]])


def flags(found: list[dict]) -> list[dict]:
    """Correlation among examples that are trusted and that are not, by seed."""
    rows = []
    for lr in dict.fromkeys(run["lr"] for run in found):
        own = [run for run in found if run["lr"] == lr and "proxy" in run]
        threshold = threshold_of(own[0]) if own else None
        for run in own:
            trusted = run["proxy"] <= threshold
            parts = [[t[:, rows] for t in run["tables"]] for rows in (trusted, ~trusted)]
            error = np.linalg.norm(np.subtract(*run["tables"]), axis=0)
            error = error / np.linalg.norm(run["tables"][1], axis=0)
            rows.append(
                {
                    "lr": lr,
                    "seed": run["seed"],
                    "threshold": threshold,
                    "median_ratio": float(np.median(run["proxy"])),
                    "trusted": float(trusted.mean()),
                    "spearman_trusted": correlation(*parts[0]),
                    "spearman_others": correlation(*parts[1]),
                    "rank_correlation_with_error": float(spearmanr(run["proxy"], error).statistic),
                }
            )
    return rows


def table(found: list[dict]) -> list[dict]:
    """Mean and standard error over seeds."""
    rows = []
    for kind, lr in dict.fromkeys((run["kind"], run["lr"]) for run in found):
        own = [run for run in found if (run["kind"], run["lr"]) == (kind, lr)]
        for name in own[0]["spearman"]:
            values = np.array([run["spearman"][name] for run in own])
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
            mean = float(values.mean())
            rows.append(
                {"kind": kind, "lr": lr, "method": name, "spearman": mean, "standard_error": error}
            )
    return rows


def show(rows: list[dict], found: list[dict]) -> None:
    """Print a table for each kind of run: methods as lines, rates as columns."""
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        lrs = list(dict.fromkeys(row["lr"] for row in own))
        print(f"\n{kind:<30}", *(f"lr {lr:<14g}" for lr in lrs))
        for name in dict.fromkeys(row["method"] for row in own):
            cells = [row for row in own if row["method"] == name]
            print(f"{name:<30}", *(f"{_text(row):<17}" for row in cells))
        for label in ("unresolved", "relative_error"):
            each = [
                np.mean([r[label] for r in found if (r["lr"], r["kind"]) == (lr, kind)])
                for lr in lrs
            ]
            print(f"{label:<30}", *(f"{value:<17.3g}" for value in each))


def _text(row: dict) -> str:
    error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.3f}"
    return f"{row['spearman']:.3f}{error}"


def draw(rows: list[dict], path: Path) -> None:
    """A panel for each kind of run, a group of bars for each rate."""
    import matplotlib.pyplot as plt

    from influencekit.displays._style import PALETTE

    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, axes = plt.subplots(1, len(kinds), figsize=(5.4 * len(kinds), 4.6), squeeze=False)
    for ax, kind in zip(axes[0], kinds, strict=True):
        own = [row for row in rows if row["kind"] == kind]
        names = list(dict.fromkeys(row["method"] for row in own))
        lrs = list(dict.fromkeys(row["lr"] for row in own))
        height = 0.8 / len(lrs)
        for i, lr in enumerate(lrs):
            cells = [row for row in own if row["lr"] == lr]
            ax.barh(
                np.arange(len(names)) + (i - (len(lrs) - 1) / 2) * height,
                [row["spearman"] for row in cells],
                height,
                xerr=[row["standard_error"] or 0 for row in cells],
                color=PALETTE[i % len(PALETTE)],
                label=f"lr {lr:g}",
            )
        ax.set(yticks=np.arange(len(names)), yticklabels=names, xlabel="Spearman", title=kind)
        ax.axvline(0, color="0.4", linewidth=0.8)
        ax.invert_yaxis()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run all rates and seeds, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--setting", choices=list(SETTINGS), default="mnist")
    parser.add_argument("--lrs", type=float, nargs="+", default=None)
    parser.add_argument("--activation", choices=list(ACTIVATIONS), default="relu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["plain", "scheduled"])
    parser.add_argument("--n-train", type=int, default=None)
    parser.add_argument("--n-test", type=int, default=None)
    parser.add_argument("--n-left-out", type=int, default=None)
    parser.add_argument("--no-proxy", dest="proxy", action="store_false")
    parser.add_argument("--cache-dir", type=Path, default=None, help="reruns are kept here")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--png", type=Path, default=None)
    options = parser.parse_args()
    size = SETTINGS[options.setting]
    given = {n: getattr(options, n) for n in ("n_train", "n_test", "n_left_out")}
    given["activation"] = ACTIVATIONS[options.activation]
    size = replace(size, **{name: value for name, value in given.items() if value is not None})
    found = [
        one_run(options, size, lr, seed, kind == "scheduled")
        for kind in options.kinds
        for lr in options.lrs or size.lrs
        for seed in range(options.seeds)
    ]
    rows = table(found)
    show(rows, found)
    flagged = flags(found)
    for row in flagged:
        print("proxy:", ", ".join(f"{name} {value:.3g}" for name, value in row.items()))
    for run in found:  # what only flags reads
        run.pop("tables", None)
        run.pop("proxy", None)
    if options.json is not None:
        result = {"setting": options.setting, "rows": rows, "runs": found, "proxy": flagged}
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.png is not None:
        draw(rows, options.png)


if __name__ == "__main__":
    main()
