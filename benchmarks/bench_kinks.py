"""``curvature="smoothed_hessian"`` on ReLU nets, and how far single reruns can be predicted.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_kinks.py --setting mnist

Spearman correlation over the left-out examples (mean over test examples) and relative error of
AdamWInfluence with "hessian" and "smoothed_hessian" against reruns without one example each, in
float64; nets and data of bench_finite_push.py.

Then, with ``--starts`` runs whose parameters start with noise of 0.001: the mean correlation of
the changes that reruns of two such runs find.  What depends on single switches of units differs
between them.  Scores that knew the expected effect exactly would correlate with one rerun by about
the root of it.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from bench_finite_push import (
    ACTIVATIONS,
    common_options,
    correlation,
    make_run,
    print_seeds,
)

from influencekit import AdamWInfluence
from influencekit.training import trajectory_leave_one_out


def one_seed(lr: float, seed: int, options) -> dict[str, float]:
    """Quality of both curvatures for one run, and the agreement of reruns."""
    runs = [
        make_run(options.setting, options.activation, lr, seed, options, shift)
        for shift in range(max(options.starts, 1))
    ]
    truths = [
        trajectory_leave_one_out(
            *(run.task, run.X, run.y, run.X_test, run.y_test),
            left_out=run.left_out,
            trajectory=run.trajectory,
            cache_dir=options.cache_dir,
        ).scores
        for run in runs
    ]
    run, truth, found = runs[0], truths[0], {}
    for curvature in ("hessian", "smoothed_hessian"):
        influence = AdamWInfluence(run.trajectory, curvature).fit(run.task, run.X, run.y)
        scores = influence.score(run.X_test, run.y_test)[:, run.left_out]
        found[f"{curvature} spearman"] = correlation(scores, truth)
        found[f"{curvature} error"] = np.linalg.norm(scores - truth) / np.linalg.norm(truth)
    pairs = [correlation(a, b) for a, b in combinations(truths, 2)]
    if pairs:
        found["reruns of two starts"] = np.mean(pairs)
        found["root of it"] = np.sqrt(max(np.mean(pairs), 0.0))
    return found


def main() -> None:
    """Print a block for each rate: means over seeds, and each seed."""
    parser = common_options(__doc__, n_test=20)
    parser.add_argument("--activation", choices=list(ACTIVATIONS), default="relu")
    parser.add_argument("--starts", type=int, default=3, help="runs whose reruns are compared")
    options = parser.parse_args()
    for lr in options.lrs:
        found = [one_seed(lr, seed, options) for seed in range(options.seeds)]
        print(f"{options.setting}, {options.activation}, lr {lr:g}", flush=True)
        print_seeds(found)


if __name__ == "__main__":
    main()
