"""Accuracy after taking out the training examples that an attribution calls most helpful.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_removal.py [--json FILE] [--png FILE]

MNIST where the data folder holds mnist/mnist.npz, scikit-learn's digits otherwise.  For each seed
(data, model and retrainings all drawn anew) the scores of the training examples are summed over
the test queries, the highest 10, 30 and 50 percent are removed, and the model is trained again
on the rest, several times.  Lower accuracy is a better attribution.  Nothing removed and random
examples removed stand beside it.  The damping λ of each method is chosen in four ways:

- "λ -> 0": 1e-8 of the largest eigenvalue, which is what a library whose default adds nothing
  computes up to the rounding of the singular directions;
- "default": this package's damping="auto";
- "ξ = 0.5": SurrogateLambdaSearchCV, no retraining;
- "λ -> inf": GradDot, the limit, for comparison.

Standard errors are over seeds, each seed's value being the mean of its retrainings.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path

import numpy as np
import sensitivity_settings as settings

from influencekit import (
    TRAK,
    GradDot,
    InfluenceFunction,
    SurrogateLambdaSearchCV,
    retrain_on_subsets,
)
from influencekit.exceptions import InfluenceKitWarning

FRACTIONS = (0.1, 0.3, 0.5)
N_RANDOM = 3
TINY = 1e-8


def is_right(outputs, targets):
    """One where the class with the largest logit is the label."""
    return (outputs.argmax(-1) == targets).to(outputs.dtype)


def methods(dim: int, seed: int) -> dict:
    """Attributors whose damping is chosen."""
    options = {"projection_dim": dim, "random_state": seed}
    return {
        "IF fisher": InfluenceFunction("fisher", **options),
        "IF ggn": InfluenceFunction("ggn", **options),
        "TRAK": TRAK(**options),
    }


def total_scores(net, data, dim: int, seed: int) -> dict[str, np.ndarray]:
    """Sum over the queries of each training example's scores, by method and choice of λ."""
    X, y, X_query, y_query = data
    totals = {"GradDot (λ -> inf)": GradDot().fit(net, X, y).score(X_query, y_query).sum(0)}
    for name, attributor in methods(dim, seed).items():
        fitted = attributor.fit(net, X, y)
        totals[f"{name}, default"] = fitted.score(X_query, y_query).sum(0)
        search = SurrogateLambdaSearchCV(attributor, random_state=seed).fit(net, X, y)
        totals[f"{name}, ξ = 0.5"] = search.score(X_query, y_query).sum(0)
        smallest = TINY * float(fitted.eigenvalues_.max())
        totals[f"{name}, λ -> 0"] = fitted.set_damping(smallest).score(X_query, y_query).sum(0)
    return totals


def removal_masks(totals: dict[str, np.ndarray], seed: int) -> dict[tuple[str, float], np.ndarray]:
    """Rows that stay, by method and fraction; several draws of random ones."""
    n = len(next(iter(totals.values())))
    rng = np.random.RandomState(seed)
    for i in range(N_RANDOM):
        totals = {**totals, f"random {i}": rng.rand(n)}
    masks = {("nothing removed", 0.0): np.ones(n, dtype=bool)}
    for name, total in totals.items():
        order = np.argsort(-total, kind="stable")
        for fraction in FRACTIONS:
            stay = np.ones(n, dtype=bool)
            stay[order[: round(fraction * n)]] = False
            masks[name, fraction] = stay
    return masks


def one_seed(setting, seed: int, options) -> dict[tuple[str, float], float]:
    """Accuracy by method and fraction."""
    net = setting.fit(1, seed)[0]
    masks = removal_masks(total_scores(net, setting.data, options.projection_dim, seed), seed)
    outputs = retrain_on_subsets(
        net,
        *setting.data,
        masks=np.array(list(masks.values())),
        n_repeats=options.repeats,
        output=is_right,
        random_state=seed,
        n_jobs=options.n_jobs,
        cache_dir=options.cache_dir,
        verbose=1,
    ).outputs
    accuracy = dict(zip(masks, outputs.mean(axis=(1, 2)), strict=True))
    for fraction in FRACTIONS:
        draws = [accuracy.pop((f"random {i}", fraction)) for i in range(N_RANDOM)]
        accuracy["random", fraction] = float(np.mean(draws))
    return accuracy


def table(seeds: list[dict]) -> list[dict]:
    """Mean and standard error over seeds, a row for each method and fraction."""
    rows = []
    for name, fraction in seeds[0]:
        values = np.array([seed[name, fraction] for seed in seeds])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        rows.append(
            {
                "method": name,
                "fraction": fraction,
                "accuracy": float(values.mean()),
                "standard_error": float(error),
            }
        )
    return rows


def show(rows: list[dict]) -> None:
    """Print methods as lines and fractions as columns."""
    print(f"{'removed, most helpful by':<28}", *(f"{f:>14.0%}" for f in FRACTIONS))
    by_method: dict[str, dict[float, str]] = {}
    for row in rows:
        text = f"{100 * row['accuracy']:.2f} ± {100 * row['standard_error']:.2f}"
        by_method.setdefault(row["method"], {})[row["fraction"]] = text
    full = by_method.pop("nothing removed")[0.0]
    print(f"{'nothing removed':<28}", *(f"{full:>14}" for _ in FRACTIONS))
    for name in sorted(by_method, key=lambda name: name != "random"):
        print(f"{name:<28}", *(f"{by_method[name][f]:>14}" for f in FRACTIONS))


def draw(rows: list[dict], path: Path) -> None:
    """Accuracy against the share removed."""
    import matplotlib.pyplot as plt

    from influencekit.displays._style import MARKERS, PALETTE

    figure, ax = plt.subplots(figsize=(8.6, 4.4), layout="constrained")
    full = next(row for row in rows if row["method"] == "nothing removed")
    ways = {"λ -> 0": ":", "default": "-", "ξ = 0.5": "--"}
    colors: dict[str, str] = {}
    names = list(dict.fromkeys(row["method"] for row in rows))
    for name in names[1:]:
        own = [full, *(row for row in rows if row["method"] == name)]
        method, _, way = name.partition(", ")
        color = colors.setdefault(method, PALETTE[len(colors) % len(PALETTE)])
        ax.errorbar(
            [100 * row["fraction"] for row in own],
            [100 * row["accuracy"] for row in own],
            [100 * row["standard_error"] for row in own],
            color="0.4" if name == "random" else color,
            linestyle=ways.get(way, "-."),
            marker=MARKERS[list(colors).index(method) % len(MARKERS)],
            markersize=4,
            capsize=2,
            label=name,
        )
    ax.set(xlabel="most helpful removed, %", ylabel="test accuracy, %")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run all seeds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = os.environ.get("INFLUENCEKIT_DATA")
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--n-train", type=int, default=2000)
    parser.add_argument("--n-test", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2, help="retrainings of each subset")
    parser.add_argument("--projection-dim", type=int, default=1024)
    parser.add_argument("--n-jobs", type=int, default=None)
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--png", type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore", InfluenceKitWarning)
    shape = options.n_train, options.n_test, options.epochs
    home = options.data_home
    has_mnist = home is not None and (home / "mnist" / "mnist.npz").exists()
    found = []
    for seed in range(options.seeds):
        setting = settings.mnist(home, *shape, seed) if has_mnist else settings.digits(*shape, seed)
        found.append(one_seed(setting, seed, options))
    print(
        f"{setting.name}, {len(setting.X):,} training examples, accuracy on {len(setting.X_query)}"
    )
    rows = table(found)
    show(rows)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.png is not None:
        draw(rows, options.png)


if __name__ == "__main__":
    main()
