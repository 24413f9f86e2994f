"""Which method agrees with further training, and after how much of it.

For each data set the fitted model is trained further with and without each of some training
rows (the gold standard), and every method's scores are compared with what happened: cosine per
test example, mean and standard error, with the noise ceiling of the gold standard itself.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_agreement.py --data concrete --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from agreement_settings import SETTINGS, Setting, fitted

from influencekit import TRAK, FurtherTraining, GradCos, GradDot, InfluenceFunction
from influencekit.curvature import ConjugateGradient, LiSSA
from influencekit.displays import AgreementDisplay
from influencekit.exceptions import InfluenceKitWarning
from influencekit.metrics import agreement_by_seeds

NOISE = ("cosine_ceiling", "spearman_ceiling", "split_half", "unresolved_share", "offset_share")


def methods(setting: Setting, optimizer: str, mean_square: float) -> dict:
    """Name to ``make(epochs) -> attributor``; most do not depend on the amount of training."""
    options = dict(setting.curvature_options)
    published = 100.0 * mean_square  # the largest of the paper's grid

    def horizon(epochs: int, **more):
        further = further_training(setting, optimizer, (epochs,), n_repeats=1, random_state=99)
        return InfluenceFunction("ggn", further_training=further, **options, **more)

    found = {
        "GradDot": lambda epochs: GradDot(),
        "GradCos": lambda epochs: GradCos(),
        "DataInf": lambda epochs: InfluenceFunction("datainf"),
        "EK-FAC": lambda epochs: InfluenceFunction("ekfac"),
        "TRAK": lambda epochs: TRAK(projection_dim=512, random_state=0),
        "CG, published λ": lambda epochs: InfluenceFunction(
            ConjugateGradient("ggn", max_iter=100), published
        ),
        "LiSSA, published λ": lambda epochs: InfluenceFunction(
            LiSSA("ggn", depth=500, random_state=0), published
        ),
        "GGN, default λ": lambda epochs: InfluenceFunction("ggn", **options),
        "GGN, endpoint, default λ": lambda epochs: horizon(epochs, at="endpoint"),
    }
    if optimizer == "sgd":
        found["GGN, matched λ"] = lambda epochs: horizon(epochs, damping="matched")
        found["GGN, matched λ, predicted end"] = lambda epochs: horizon(
            epochs, damping="matched", at="predicted"
        )
        found["GGN, matched λ, endpoint"] = lambda epochs: horizon(
            epochs, damping="matched", at="endpoint"
        )
    return found


def further_training(setting: Setting, optimizer: str, horizons, **more) -> FurtherTraining:
    """Gold standard of a setting: pairs of runs, centered as in the paper's main figures."""
    return FurtherTraining(
        optimizer,
        lr=setting.rates[optimizer],
        horizons=list(horizons),
        batch_size=128,
        left_out=setting.n_left_out,
        adjust="center",
        **more,
    )


def run(name: str, optimizer: str, n_repeats: int | None, cache_dir, only):
    """Results of every method against one gold standard, and a JSON row."""
    setting = SETTINGS[name]
    net, X, y, X_test, y_test = fitted(setting)
    gold = further_training(
        setting,
        optimizer,
        setting.horizons,
        n_repeats=n_repeats or setting.n_repeats,
        random_state=0,
        cache_dir=cache_dir,
        verbose=1,
    ).fit(net, X, y)
    start = time.perf_counter()
    measured = gold.measure(X_test, y_test)
    row = {"data": name, "optimizer": optimizer, "n_repeats": len(gold.seeds_), "methods": {}}
    row.update(
        n_train=len(X),
        n_test=len(X_test),
        n_left_out=setting.n_left_out,
        gold_seconds=time.perf_counter() - start,
        horizons=list(map(int, measured.horizons)),
    )
    p = gold.task_.n_parameters
    print(f"\n{name}, {optimizer}: {len(X)} rows, p = {p:,}, {measured!r}")
    mean_square = float(GradDot().fit(net, X, y).self_influence().mean()) / p
    results, picked = {}, {}
    for method, make in methods(setting, optimizer, mean_square).items():
        if only and method not in only:
            continue
        start = time.perf_counter()
        try:
            scores = scores_by_horizon(make, measured, net, X, y, X_test, y_test)
            results[method] = measured.agreement(scores)
            picked[method] = scores
        except (ValueError, MemoryError, RuntimeError) as error:
            print(f"{method:<32} not run: {error}")
            row["methods"][method] = {"error": str(error)}
            continue
        result = results[method]
        row["methods"][method] = {
            "cosine": result.cosine.tolist(),
            "cosine_se": result.cosine_se.tolist(),
            "spearman": result.spearman.tolist(),
            "seconds": time.perf_counter() - start,
        }
        cells = "  ".join(
            f"{c:.3f} ± {e:.3f}" for c, e in zip(result.cosine, result.cosine_se, strict=True)
        )
        print(f"{method:<32} {cells}", flush=True)
    any_result = next(iter(results.values()))
    for entry in NOISE:
        row[entry] = getattr(any_result, entry).tolist()
        print(f"{entry:<32} " + "  ".join(f"{v:.3f}        " for v in row[entry]))
    sizes = [size for size in (1, 2, 5, 10) if 2 * size <= len(gold.seeds_)]
    curve = agreement_by_seeds(gold.iter_seeds(X_test, y_test), picked, n_repeats=sizes)
    row["by_seeds"] = {"n_repeats": sizes, **{k: list(v) for k, v in curve.best().items()}}
    return results, row, curve


def scores_by_horizon(make, measured, net, X, y, X_test, y_test) -> np.ndarray:
    """Scores at every horizon; computed once where they do not depend on it."""
    found, last = [], None
    for epochs in measured.horizons:
        attributor = make(int(epochs))
        depends = getattr(attributor, "further_training", None) is not None
        if last is None or depends:
            last = measured.pick(attributor.fit(net, X, y).score(X_test, y_test))
        found.append(last)
    return np.stack(found)


def main() -> None:
    """Run the chosen data sets; print, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(SETTINGS), default=["concrete"])
    parser.add_argument("--optimizers", nargs="+", choices=["sgd", "adam"], default=["sgd"])
    parser.add_argument("--methods", nargs="+", default=None)
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None, help="folder for pictures and JSON")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InfluenceKitWarning)
    for name in arguments.data:
        for optimizer in arguments.optimizers:
            results, row, curve = run(
                name, optimizer, arguments.seeds, arguments.cache_dir, arguments.methods
            )
            if arguments.out is None:
                continue
            arguments.out.mkdir(parents=True, exist_ok=True)
            stem = arguments.out / f"agreement_{name}_{optimizer}"
            stem.with_suffix(".json").write_text(json.dumps(row, indent=1))
            if len(row["horizons"]) > 1:
                display = AgreementDisplay.from_results(results)
                display.ax_.set_title(f"{name}, {optimizer}")
                display.figure_.savefig(stem.with_suffix(".png"), dpi=120, bbox_inches="tight")
            if len(curve.n_repeats) > 1:
                display = AgreementDisplay.from_seed_curve(curve)
                display.ax_.set_title(f"{name}, {optimizer}, best over horizons")
                path = stem.with_name(f"seeds_{name}_{optimizer}.png")
                display.figure_.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
