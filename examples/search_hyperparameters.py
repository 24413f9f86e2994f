"""A search of hyperparameters to start from: arguments, a study that is kept, resuming, workers.

Trains a net on scikit-learn's digits, retrains it on random halves of its rows, and lets Optuna
look for the damping and the projection of an influence function whose scores predict the retrained
models best.  Retrainings and trials are kept in a folder: a second call goes on where the first
stopped, and ends with the same study and more trials.  The winner is judged on queries that the
search did not see, together with the default and the λ that ξ chooses without retraining.

    python examples/search_hyperparameters.py --folder search --n-trials 20
    python examples/search_hyperparameters.py --folder search --n-trials 20   # 20 more

Put your own data and model into ``load`` and ``train``, and your own parameters into ``SPACE``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import numpy as np
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from influencekit import (
    InfluenceFunction,
    LDSSearch,
    SurrogateLambdaSearchCV,
    lds_scorer,
    retrain_on_subsets,
)

SPACE = {
    "damping": FloatDistribution(1e-5, 1e1, log=True),
    "projection_dim": CategoricalDistribution([64, 256, None]),
}


def load(n_train: int, n_query: int, seed: int) -> tuple:
    """Training rows, queries to tune on, queries to report on."""
    X, y = load_digits(return_X_y=True)
    X_train, X_rest, y_train, y_rest = train_test_split(
        X / 16, y, train_size=n_train, stratify=y, random_state=seed
    )
    half = n_query // 2
    return (
        X_train,
        y_train,
        X_rest[:half],
        y_rest[:half],
        X_rest[half:n_query],
        y_rest[half:n_query],
    )


def train(X: np.ndarray, y: np.ndarray, seed: int) -> MLPClassifier:
    """A net that stops where an epoch gains less than 0.01."""
    net = MLPClassifier((16,), solver="sgd", learning_rate_init=0.05, tol=1e-2, n_iter_no_change=2,
                        random_state=seed)  # fmt: skip
    return net.fit(X, y)


def search(options: argparse.Namespace) -> dict:
    """Run the search; the study's trials, the best parameters, and LDS on the other queries."""
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    X, y, X_tune, y_tune, X_report, y_report = load(options.n_train, options.n_query, options.seed)
    model = train(X, y, options.seed)

    with joblib.parallel_config(n_jobs=options.n_jobs):
        truth = retrain_on_subsets(
            model, X, y, np.vstack([X_tune, X_report]), np.hstack([y_tune, y_report]),
            n_subsets=options.n_subsets, cache_dir=folder / "retrainings",
            random_state=options.seed, verbose=options.verbose,
        )  # fmt: skip
    n = len(X_tune)
    tuning, reporting = truth.take_queries(slice(0, n)), truth.take_queries(slice(n, None))

    found = LDSSearch(
        InfluenceFunction(options.curvature, random_state=options.seed), SPACE,
        n_trials=options.n_trials, storage=f"sqlite:///{folder / 'study.db'}",
        study_name=options.study_name, random_state=options.seed, verbose=options.verbose,
    ).fit(model, X, y, X_query=X_tune, y_query=y_tune, subset_outputs=tuning)  # fmt: skip

    score = lds_scorer(reporting)
    influence = InfluenceFunction(options.curvature, random_state=options.seed)
    surrogate = SurrogateLambdaSearchCV(influence, random_state=options.seed).fit(model, X, y)
    judged = {
        "default": influence.fit(model, X, y),
        "ξ, without retraining": surrogate,
        "search": found.best_attributor_,
    }
    lds = {name: score(fitted, X_report, y_report) for name, fitted in judged.items()}
    return {"n_trials": len(found.study_.trials), "best": found.best_params_, "lds": lds}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--folder", default="search", help="where the study and retrainings are kept")
    made.add_argument("--study-name", default="digits", help="the same name goes on")
    made.add_argument("--curvature", default="ggn", choices=["ggn", "fisher"])
    made.add_argument("--n-trials", type=int, default=12)
    made.add_argument("--n-subsets", type=int, default=24, help="retrainings")
    made.add_argument("--n-train", type=int, default=300)
    made.add_argument("--n-query", type=int, default=100, help="half to tune on, half to report")
    made.add_argument("--n-jobs", type=int, default=1, help="workers of the retrainings")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--verbose", type=int, default=0)
    return made


def main(argv: list[str] | None = None) -> dict:
    found = search(parser().parse_args(argv))
    print(f"{found['n_trials']} trials; best: {found['best']}")
    print("LDS on queries that the search did not see:")
    for name, lds in found["lds"].items():
        print(f"  {name:<24}{lds:.3f}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)  # small products; workers have a core each
    main()
