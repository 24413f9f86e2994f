"""The main job on real data: train a net, attribute its answers, prove the scores.

Trains a small network on scikit-learn's digits that keeps a few checkpoints, averages influence
functions along the run, and compares them with the final model: at its default damping, at that of
the surrogate indicator ξ, and at the one that LDSSearch finds the expensive way. It reports how
well each one's scores predict models retrained on half of the data, on queries that none saw.

Run it with ``make demo`` or ``python examples/demo_digits.py --output-dir demo_output``.
"""

from __future__ import annotations

import argparse
import time
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

from influencekit import (
    InfluenceFunction,
    LDSSearch,
    RunAverage,
    SurrogateLambdaSearchCV,
    retrain_on_subsets,
)
from influencekit.displays import LambdaPathDisplay, TopExamplesDisplay
from influencekit.metrics import PreparedOutputs, linear_datamodeling_score
from influencekit.training import KeepCheckpoints

N_TRAIN, N_QUERY = 1000, 200
N_SUBSETS, N_REPEATS, N_TRIALS = 50, 2, 20


class Net(nn.Module):
    """Two layers."""

    def __init__(self, hidden: int = 32):
        super().__init__()
        self.hidden = nn.Linear(64, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, X):
        return self.out(torch.relu(self.hidden(X)))


def load_data():
    """Digits as float32: training rows, queries to tune on, queries to report on."""
    X, y = load_digits(return_X_y=True)
    X_train, X_rest, y_train, y_rest = train_test_split(
        X.astype(np.float32), y, train_size=N_TRAIN, stratify=y, random_state=0
    )
    X_rest, y_rest = X_rest[:N_QUERY], y_rest[:N_QUERY]
    half = N_QUERY // 2
    return (X_train, y_train), (X_rest[:half], y_rest[:half]), (X_rest[half:], y_rest[half:])


def train(X, y):
    """Pipeline of a scaler and a skorch net, fitted with SGD."""
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        Net,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-3,
        lr=0.05,
        batch_size=64,
        max_epochs=40,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[KeepCheckpoints(n=8)],
    )
    return make_pipeline(MinMaxScaler(), net).fit(X, y)


def timed(function):
    """Result of a function and the seconds that it took."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def report(rows) -> str:
    """Table of the ways to scores; of several dampings the median."""
    columns = f"{'λ':>10}{'LDS':>8}{'± s.e.':>9}{'seconds':>10}{'retrainings':>13}"
    lines = [f"{'scores':<28}{columns}", "-" * 78]
    for name, damping, lds, seconds, retrainings in rows:
        lines.append(
            f"{name:<28}{np.median(damping):>10.2e}{lds.mean:>8.3f}{lds.standard_error:>9.3f}"
            f"{seconds:>10.1f}{retrainings:>13d}"
        )
    return "\n".join(lines)


def main(output_dir: Path) -> None:
    """Run the job, print the table, save the pictures."""
    output_dir.mkdir(parents=True, exist_ok=True)
    (X, y), (X_tune, y_tune), (X_report, y_report) = load_data()
    pipe, seconds = timed(lambda: train(X, y))
    accuracy = np.mean(pipe.predict(X_report) == y_report)
    print(f"Trained on {len(X)} digits in {seconds:.1f} s; test accuracy {accuracy:.3f}")

    average, average_seconds = timed(lambda: RunAverage().fit(pipe, X, y))
    default, default_seconds = timed(lambda: InfluenceFunction().fit(pipe, X, y))
    surrogate, surrogate_seconds = timed(
        lambda: SurrogateLambdaSearchCV(InfluenceFunction(), criterion="xi", random_state=0).fit(
            pipe, X, y
        )
    )

    print(f"Retraining on {N_SUBSETS} halves of the data, {N_REPEATS} seeds each ...")
    truth, retraining_seconds = timed(
        lambda: retrain_on_subsets(
            pipe,
            X,
            y,
            np.concatenate([X_tune, X_report]),
            np.concatenate([y_tune, y_report]),
            n_subsets=N_SUBSETS,
            n_repeats=N_REPEATS,
            random_state=0,
            verbose=1,
        )
    )
    half = len(X_tune)
    tuning, reporting = truth.take_queries(slice(0, half)), truth.take_queries(slice(half, None))
    search, search_seconds = timed(
        lambda: LDSSearch(InfluenceFunction(), n_trials=N_TRIALS, random_state=0).fit(
            pipe, X, y, X_query=X_tune, y_query=y_tune, subset_outputs=tuning
        )
    )

    rows = []
    retrainings = N_SUBSETS * N_REPEATS
    search_seconds += retraining_seconds
    for name, attributor, seconds, n in (
        ("average along the run", average, average_seconds, 0),
        ("final model", default, default_seconds, 0),
        ("final, ξ = 0.5 (surrogate)", surrogate.best_attributor_, surrogate_seconds, 0),
        ("final, LDSSearch", search.best_attributor_, search_seconds, retrainings),
    ):
        scores = attributor.score(X_report, y_report)
        lds = linear_datamodeling_score(reporting.outputs, reporting.masks, scores)
        rows.append((name, attributor.damping_, lds, seconds, n))
    print(f"\nLDS on {len(X_report)} queries that no choice saw:\n\n{report(rows)}")
    print(f"\nattainable LDS with this many retrainings: {rows[0][2].noise_ceiling:.3f}")

    save_path(surrogate, default, reporting, X_report, y_report, rows, output_dir)
    save_examples(average, pipe, X, y, X_report, y_report, output_dir)


def save_path(surrogate, default, reporting, X, y, rows, output_dir: Path) -> None:
    """Save ξ and LDS against the damping, with the picks."""
    path = default.damping_path(X, y)
    sums = path.subset_sums(reporting.masks)
    truth = PreparedOutputs(reporting.outputs)
    dampings = surrogate.cv_results_["param_damping"]
    lds = [truth.score(sums.at(d)) for d in dampings]
    picks = {name.split(" (")[0]: damping for name, damping, *_ in rows[1:] if "ξ" not in name}
    LambdaPathDisplay.from_estimator(
        surrogate,
        lds=[result.mean for result in lds],
        lds_se=[result.standard_error for result in lds],
        picks=picks,
    )
    file = output_dir / "lambda_path.png"
    plt.savefig(file, dpi=120, bbox_inches="tight")
    plt.close("all")
    print(f"\nξ and LDS against λ: {file}")


def save_examples(average, pipe, X, y, X_test, y_test, output_dir: Path) -> None:
    """Save the top proponents and opponents of a few test digits, wrong predictions first."""
    wrong = np.flatnonzero(pipe.predict(X_test) != y_test)
    rows = np.concatenate([wrong, np.setdiff1d(np.arange(len(X_test)), wrong)])[:4]
    TopExamplesDisplay.from_estimator(
        average, X, X_test, y_train=y, y_query=y_test, k=5, rows=rows, image_shape=(8, 8)
    )
    file = output_dir / "top_examples.png"
    plt.savefig(file, dpi=120, bbox_inches="tight")
    plt.close("all")
    print(f"top proponents and opponents: {file}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output-dir", type=Path, default=Path("demo_output"))
    main(parser.parse_args().output_dir)
