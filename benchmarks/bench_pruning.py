"""Accuracy after a quarter, half and three quarters of the training rows are left out.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_pruning.py [--settings NAME ...]
        [--noise KIND --rate R] [--seeds N] [--n-train N] [--json FILE]

Rows are valued by DatasetPruner in cross-validation on the training rows alone, and the model is
trained again on what stays, several times; test rows are asked only then.  Random rows left out
and nothing left out stand beside it.  With --rate labels of the training rows are flipped first.
Rows, values and retrainings are drawn anew for each seed; standard errors are over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path

import noisy_label_settings as settings
import numpy as np

from influencekit import GradDot, LossBaseline, retrain_on_subsets
from influencekit.applications import DatasetPruner, NoisyLabelDetector
from influencekit.applications._removal import right_class

FRACTIONS = (0.25, 0.5, 0.75)


def pruners(model, seed: int) -> dict[str, DatasetPruner]:
    """Ways to choose the rows that stay."""
    detector = NoisyLabelDetector(model, contamination=0.1, refit=False)
    ways = {
        "random": {"strategy": "random"},
        "influence, lowest": {},
        "influence, weakest": {"strategy": "weakest"},
        "GradDot, lowest": {"attributor": GradDot()},
        "loss, highest": {"attributor": LossBaseline()},
        "label score, highest": {"attributor": detector},
    }
    return {
        name: DatasetPruner(model, random_state=seed, **options) for name, options in ways.items()
    }


def kept_masks(pruner: DatasetPruner, X, y) -> list[np.ndarray]:
    """Rows that stay at each fraction; values are found once."""
    pruner.fit(X, y)
    masks = np.zeros((len(FRACTIONS), len(y)), dtype=bool)
    for mask, fraction in zip(masks, FRACTIONS, strict=True):
        mask[pruner.kept_at(fraction)] = True
    return list(masks)


def one_seed(name: str, seed: int, options) -> dict[tuple[str, float], float]:
    """Test accuracy by way and fraction."""
    setting = settings.make_setting(name, seed, options.n_train, options.data_home)
    y = setting.y
    if options.rate:
        y = settings.flip_labels(setting.X, y, options.rate, options.noise, seed)
    masks = {("nothing left out", 0.0): np.ones(len(y), dtype=bool)}
    for way, pruner in pruners(setting.model, seed).items():
        for fraction, mask in zip(FRACTIONS, kept_masks(pruner, setting.X, y), strict=True):
            masks[way, fraction] = mask
    outputs = retrain_on_subsets(
        setting.model,
        setting.X,
        y,
        setting.X_test,
        setting.y_test,
        masks=np.array(list(masks.values())),
        n_repeats=options.repeats,
        output=right_class,
        random_state=seed,
        n_jobs=options.n_jobs,
    ).outputs
    return dict(zip(masks, outputs.mean(axis=(1, 2)), strict=True))


def table(name: str, found: list[dict], options) -> list[dict]:
    """Mean and standard error over seeds, and of the difference to random rows."""
    rows = []
    for way, fraction in found[0]:
        values = 100 * np.array([seed[way, fraction] for seed in found])
        base = values if way == "nothing left out" else None
        if base is None:
            base = 100 * np.array([seed["random", fraction] for seed in found])
        rows.append(
            {
                "setting": name,
                "rate": options.rate,
                "noise": options.noise if options.rate else None,
                "way": way,
                "fraction": fraction,
                "accuracy": float(values.mean()),
                "standard_error": standard_error(values),
                "over_random": float((values - base).mean()),
                "over_random_error": standard_error(values - base),
            }
        )
    return rows


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean; NaN for one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def show(rows: list[dict]) -> None:
    """Print ways as lines and fractions as columns."""
    for name in dict.fromkeys(row["setting"] for row in rows):
        own = [row for row in rows if row["setting"] == name]
        full = own[0]
        print(f"\n{name}, wrong labels {full['rate']:.0%}: accuracy, % (over random)")
        text = f"{full['accuracy']:.2f} ± {full['standard_error']:.2f}"
        print(f"{'nothing left out':<24}{text:>16}")
        print(f"{'left out':<24}", *(f"{f:>26.0%}" for f in FRACTIONS))
        for way in dict.fromkeys(row["way"] for row in own[1:]):
            cells = [
                f"{row['accuracy']:.2f} ± {row['standard_error']:.2f} ({row['over_random']:+.2f})"
                for row in own
                if row["way"] == way
            ]
            print(f"{way:<24}", *(f"{cell:>26}" for cell in cells))


def main() -> None:
    """Run all settings and seeds, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    names = settings.DEVELOPMENT + settings.HELD_OUT
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--settings", nargs="+", default=["digits"], choices=names)
    parser.add_argument("--noise", default="uniform", choices=settings.NOISE)
    parser.add_argument("--rate", type=float, default=0.0, help="share of wrong labels")
    parser.add_argument("--n-train", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2, help="retrainings of each subset")
    parser.add_argument("--n-jobs", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.settings:
        found = [one_seed(name, seed, options) for seed in range(options.seeds)]
        rows += table(name, found, options)
        if options.json is not None:
            options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    show(rows)


if __name__ == "__main__":
    main()
