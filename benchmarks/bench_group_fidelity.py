"""Do group scores tell what leaving a group out does?  Against retraining, and as LDS on groups.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_group_fidelity.py --settings mnist acs sst2
        [--seeds N] [--json FILE]

Rows are drawn anew for each seed and partitioned three ways (random, k-means on inputs, k-means on
loss gradients by the last layer's input).  Ground truth is retraining without each group, and on
random halves of the groups; both with several repeats, stacked.  Scores of a group:

- "points": exact sums of the scores of InfluenceFunction("ggn"), ("fisher") and GradDot;
- "groups": the k x k form of the empirical Fisher matrix, in SUM and MEAN form.

Reported: Spearman of predicted and measured effects over groups (mean over test rows), that of the
mean test loss, and the LDS over subsets of groups; standard errors are over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path

import noisy_label_settings as settings
import numpy as np
from scipy.stats import spearmanr
from sklearn.base import clone

from influencekit import GradDot, InfluenceFunction, retrain_on_subsets
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper
from influencekit.metrics import linear_datamodeling_score

N_GROUPS, N_TEST, N_SUBSETS = 40, 60, 30
SETTINGS = {"mnist": 2000, "acs": 2000, "sst2-linear": 2000, "digits": 1000}


def groupers(seed: int) -> dict:
    return {
        "random": RandomGrouper(N_GROUPS, random_state=seed),
        "k-means, inputs": KMeansGrouper(N_GROUPS, features="inputs", random_state=seed),
        "k-means, gradients": KMeansGrouper(N_GROUPS, random_state=seed),
    }


def attributors(seed: int) -> dict:
    options = {"projection_dim": 1024, "random_state": seed}
    fisher = InfluenceFunction("fisher")
    return {
        "GradDot, points": GroupAttributor(GradDot()),
        "GGN, points": GroupAttributor(InfluenceFunction("ggn", **options)),
        "Fisher, points": GroupAttributor(InfluenceFunction("fisher", **options)),
        "Fisher, groups, SUM": GroupAttributor(fisher, curvature="groups", fisher_form="sum"),
        "Fisher, groups, MEAN": GroupAttributor(fisher, curvature="groups", fisher_form="mean"),
    }


def truth(model, data, labels, seed: int):
    """Outputs (n_test, n_groups) lost without a group, and subsets of groups for the LDS."""
    X, y, X_test, y_test = data
    k, rng = int(labels.max()) + 1, np.random.RandomState(seed)
    inside = np.array([rng.permutation(k) < k // 2 for _ in range(N_SUBSETS)])
    without = labels[None] != np.arange(k)[:, None]
    masks = np.concatenate([np.ones((1, len(X)), bool), without, inside[:, labels]])
    found = retrain_on_subsets(
        model, X, y, X_test, y_test, masks=masks, n_repeats=3, random_state=seed
    ).outputs
    full, rest, halves = found[0].mean(0), found[1 : 1 + k].mean(1), found[1 + k :]
    return (full - rest).T, halves, inside


def run(name: str, seed: int, data_home) -> list[dict]:
    setting = settings.make_setting(name, seed, SETTINGS[name], data_home)
    X, y = setting.X, setting.y
    data = (X, y, setting.X_test[:N_TEST], setting.y_test[:N_TEST])
    model = clone(setting.model).fit(X, y)
    rows = []
    for grouping, grouper in groupers(seed).items():
        labels = grouper.fit_predict(model, X, y)
        effects, halves, inside = truth(setting.model, data, labels, seed)
        for method, attributor in attributors(seed).items():
            scores = attributor.fit(model, X, y, groups=labels).score(*data[2:])
            each = [spearmanr(a, b).statistic for a, b in zip(scores, effects, strict=True)]
            lds = linear_datamodeling_score(halves, inside, scores)
            rows.append(
                {
                    "setting": name,
                    "seed": seed,
                    "grouper": grouping,
                    "method": method,
                    "spearman": float(np.nanmean(each)),
                    "mean_loss": float(spearmanr(scores.mean(0), effects.mean(0)).statistic),
                    "lds": float(lds.mean),
                    "sizes": np.bincount(labels).tolist(),
                }
            )
    return rows


def show(rows: list[dict]) -> None:
    for name in sorted({row["setting"] for row in rows}):
        print(f"\n{name}: Spearman over groups | of the mean loss | LDS on groups")
        for grouping in groupers(0):
            for method in attributors(0):
                own = [
                    r
                    for r in rows
                    if (r["setting"], r["grouper"], r["method"]) == (name, grouping, method)
                ]
                cells = []
                for key in ("spearman", "mean_loss", "lds"):
                    values = [r[key] for r in own]
                    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(own) > 1 else np.nan
                    cells.append(f"{np.mean(values):.2f} ± {error:.2f}")
                print(f"| {grouping} | {method} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=["digits"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in arguments.settings:
        for seed in range(arguments.seeds):
            rows += run(name, seed, arguments.data_home)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(rows, indent=1))
        show([row for row in rows if row["setting"] == name])


if __name__ == "__main__":
    main()
