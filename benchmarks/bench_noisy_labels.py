"""How well flipped labels are found, by detector, kind of noise and share of wrong labels.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_noisy_labels.py [--settings NAME ...]
        [--noise KIND ...] [--rates R ...] [--seeds N] [--detectors NAME ...] [--json FILE]

Settings for development are digits, digits-long, digits-linear, cancer, cancer-linear,
wine-linear, diabetes-linear, sst2-linear and cifar2; held out are mnist, acs and acs-linear.
Names that end in "-linear" are logistic regressions, the others nets with one hidden layer.
Kinds of noise are described at ``flip_labels`` in noisy_label_settings.py.

Every detector sees the rows, the noisy labels and the model, and nothing else.  AUC is that of
its scores for the flipped rows; precision is the share of flipped rows among the first k of its
ranking, with k the number of flipped rows.  Rows, noise and folds are drawn anew for each seed,
and standard errors are over seeds.  cleanlab's own rankings are computed where cleanlab can be
imported; they get the same out-of-fold probabilities as the out-of-fold loss here.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from time import perf_counter

import noisy_label_settings as settings
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import roc_auc_score

from influencekit.applications import NoisyLabelDetector
from influencekit.applications._evidence import cross_entropy, group_means, normalized_margin
from influencekit.applications._fitting import fold_list, fold_probabilities

try:
    from cleanlab.rank import get_label_quality_scores
except ImportError:
    get_label_quality_scores = None

#: The size of groups, of the grouped detectors.
GROUP_SIZE = 16
FOLDS = 5


def quality(scores_of):
    """Whatever cleanlab gives, with the sign turned: higher is more suspicious."""
    return -np.asarray(scores_of, dtype=np.float64)


def detect(setting, y, seed: int, wanted: set[str] | None) -> dict[str, tuple[np.ndarray, float]]:
    """Scores and seconds by detector."""
    found: dict[str, tuple[np.ndarray, float]] = {}

    def run(name: str, function):
        if wanted is None or name in wanted:
            start = perf_counter()
            found[name] = function(), perf_counter() - start
        return found.get(name, (None, 0.0))[0]

    def detector(method: str, **options):
        made = NoisyLabelDetector(
            setting.model,
            method=method,
            contamination=0.1,
            refit=False,
            random_state=seed,
            **options,
        )
        return made.fit(setting.X, y)

    run("loss", lambda: detector("loss").label_scores_)
    start = perf_counter()
    held_out = detector("loss", cv=FOLDS)
    seconds = perf_counter() - start
    probabilities = held_out.probabilities_
    quick = {"loss out of fold": held_out.label_scores_}
    quick["margin out of fold"] = normalized_margin(probabilities, y)
    if get_label_quality_scores is not None:
        for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
            ranks = get_label_quality_scores(y, probabilities, method=method)
            quick[f"cleanlab {method}"] = quality(ranks)
        adjusted = get_label_quality_scores(y, probabilities, adjust_pred_probs=True)
        quick["cleanlab self_confidence, adjusted"] = quality(adjusted)
    for name, scores in quick.items():
        if wanted is None or name in wanted:
            found[name] = scores, seconds
    rounds = run("rounds (default)", lambda: detector("rounds").label_scores_)
    run("rounds, every disagreement", lambda: every_disagreement(setting, y, seed))
    run("loss, mean of 4 cross-validations", lambda: repeated(setting, y, seed))
    run("self_influence", lambda: detector("self_influence").label_scores_)
    run("validation_influence", lambda: detector("validation_influence").label_scores_)
    groups = {
        "inputs": clusters(setting.X, seed),
        "gradients": clusters(probabilities - np.eye(probabilities.shape[1])[y], seed),
    }
    for by, members in groups.items():
        run(
            f"loss out of fold, groups by {by}",
            lambda m=members: group_means(held_out.label_scores_, m),
        )
        if rounds is not None:
            run(f"rounds, groups by {by}", lambda m=members: group_means(rounds, m))
    return found


def clusters(features, seed: int) -> np.ndarray:
    """Groups of about GROUP_SIZE rows."""
    k = max(2, len(features) // GROUP_SIZE)
    return MiniBatchKMeans(k, n_init=1, random_state=seed).fit_predict(features)


def every_disagreement(setting, y, seed: int, rounds: int = 3) -> np.ndarray:
    """A candidate: rounds that leave out each row whose label is not the most likely one."""
    classes, keep = np.unique(y), np.ones(len(y), dtype=bool)
    found = []
    for step in range(rounds + 1):
        folds = fold_list(FOLDS, setting.X, y, seed + step, True)
        found.append(
            fold_probabilities(setting.model, setting.X, y, classes, folds, keep, seed + step)
        )
        keep = at_least_five(found[-1].argmax(axis=1) == y, found[-1], y)
    return cross_entropy(np.mean(found, axis=0), y)


def at_least_five(keep, probabilities, y) -> np.ndarray:
    """Rows to fit on, with the least suspicious five of each class."""
    losses = cross_entropy(probabilities, y)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        if keep[rows].sum() < 5:
            keep[rows[np.argsort(losses[rows])[:5]]] = True
    return keep


def repeated(setting, y, seed: int, times: int = 4) -> np.ndarray:
    """A candidate: no rounds, but as many fits."""
    classes, keep = np.unique(y), np.ones(len(y), dtype=bool)
    parts = [
        fold_probabilities(
            setting.model,
            setting.X,
            y,
            classes,
            fold_list(FOLDS, setting.X, y, seed + i, True),
            keep,
            seed + i,
        )
        for i in range(times)
    ]
    return cross_entropy(np.mean(parts, axis=0), y)


def one_run(name: str, kind: str, rate: float, seed: int, options) -> list[dict]:
    """A row of results for each detector."""
    setting = settings.make_setting(name, seed, options.n_train, options.data_home)
    y = settings.flip_labels(setting.X, setting.y, rate, kind, seed)
    flipped = y != setting.y
    wanted = None if options.detectors is None else set(options.detectors)
    rows = []
    for detector, (scores, seconds) in detect(setting, y, seed, wanted).items():
        first = np.argsort(-scores, kind="stable")[: flipped.sum()]
        rows.append(
            {
                "setting": name,
                "noise": kind,
                "rate": rate,
                "seed": seed,
                "detector": detector,
                "auc": float(roc_auc_score(flipped, scores)),
                "precision": float(flipped[first].mean()),
                "seconds": seconds,
            }
        )
    return rows


def show(rows: list[dict], measure: str) -> None:
    """Detectors as lines, kinds and rates as columns; a table for each setting."""
    for name in dict.fromkeys(row["setting"] for row in rows):
        own = [row for row in rows if row["setting"] == name]
        columns = list(dict.fromkeys((row["noise"], row["rate"]) for row in own))
        heads = [f"{kind} {rate:.0%}" for kind, rate in columns]
        print(f"\n{name}: {measure}, %")
        print(f"{'':<36}", *(f"{head:>13}" for head in heads))
        for detector in dict.fromkeys(row["detector"] for row in own):
            cells = []
            for column in columns:
                values = [
                    100 * row[measure]
                    for row in own
                    if (row["noise"], row["rate"]) == column and row["detector"] == detector
                ]
                error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
                cells.append(f"{np.mean(values):.1f}" + (f" ± {error:.1f}" if error else ""))
            print(f"{detector:<36}", *(f"{cell:>13}" for cell in cells))


def summary(rows: list[dict], measure: str) -> None:
    """Each detector against the better of the two baselines, in the mean and at worst."""
    baselines = {"loss", "loss out of fold", "margin out of fold"}
    values: dict[str, dict[tuple, list[float]]] = {}
    for row in rows:
        cell = row["setting"], row["noise"], row["rate"]
        by_cell = values.setdefault(row["detector"], {})
        by_cell.setdefault(cell, []).append(100 * row[measure])
    means = {name: {c: np.mean(v) for c, v in cells.items()} for name, cells in values.items()}
    cells = list(means["loss"])
    best = {c: max(m[c] for name, m in means.items() if name in baselines) for c in cells}
    print(
        f"\n{measure}, %: mean over {len(cells)} cells; against the best of loss, loss out of fold"
    )
    print(
        "and margin out of fold in each cell: in the mean, at worst, cells below by more than 0.5"
    )
    for name, by_cell in means.items():
        gain = np.array([by_cell[c] - best[c] for c in cells])
        print(
            f"{name:<36}{np.mean(list(by_cell.values())):>8.1f}{gain.mean():>8.1f}"
            f"{gain.min():>8.1f}{(gain < -0.5).sum():>6d}"
        )


def main() -> None:
    """Run everything asked for, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    names = settings.DEVELOPMENT + settings.HELD_OUT
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--settings", nargs="+", default=["digits"], choices=names)
    parser.add_argument("--noise", nargs="+", default=list(settings.NOISE), choices=settings.NOISE)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.2, 0.4])
    parser.add_argument("--n-train", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--detectors", nargs="+", default=None)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--show", nargs="+", type=Path, default=None, help="print saved results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row for path in options.show or [] for row in json.loads(path.read_text())]
    for name in options.settings if options.show is None else []:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for kind in options.noise:
                for rate in options.rates:
                    rows += one_run(name, kind, rate, seed, options)
            if options.json is not None:
                options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if get_label_quality_scores is None and options.show is None:
        print("cleanlab is not installed: its own rankings are left out (pip install cleanlab)")
    for measure in ("auc", "precision"):
        show(rows, measure)
        if len({row["setting"] for row in rows}) > 1:
            summary(rows, measure)
    print("\nseconds a run")
    for name in dict.fromkeys(row["detector"] for row in rows):
        seconds = [row["seconds"] for row in rows if row["detector"] == name]
        print(f"{name:<36}{np.mean(seconds):>8.1f}")


if __name__ == "__main__":
    main()
