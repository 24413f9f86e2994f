"""Methods beside further training."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.harness.tables import short
from influencekit import TRAK, FurtherTraining, GradCos, GradDot, InfluenceFunction, Training
from influencekit.curvature import ConjugateGradient, LiSSA
from influencekit.metrics import agreement_by_seeds


def gold(optimizer: str, lr: float, horizons, **more) -> FurtherTraining:
    """Gold standard: pairs of runs, centered as in the paper's main figures."""
    training = Training(optimizer, lr, horizons=list(horizons), batch_size=128)
    return FurtherTraining(training=training, adjust="center", **more)


def published_damping(problem, net) -> float:
    """The largest of the paper's grid: 100 times the mean squared entry of the gradients."""
    squares = float(GradDot().fit(net, *problem.train).self_influence().mean())
    return 100.0 * squares / sum(p.numel() for p in net.module_.parameters())


def methods(problem, net, optimizer: str, options: dict, curvature: dict) -> dict:
    """Name to ``make(epochs) -> attributor``; most do not depend on the amount of training."""
    published = published_damping(problem, net)

    def horizon(epochs: int, **more):
        further = gold(optimizer, horizons=(epochs,), n_repeats=1, random_state=99, **options)
        return InfluenceFunction("ggn", further_training=further, **curvature, **more)

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
        "LiSSA on the Hessian, published λ": lambda epochs: InfluenceFunction(
            LiSSA("hessian", depth=500, random_state=0), published
        ),
        "GGN, default λ": lambda epochs: InfluenceFunction("ggn", **curvature),
        "GGN, endpoint, default λ": partial(horizon, at="endpoint"),
    }
    if optimizer == "sgd":
        matched = partial(horizon, damping="matched")
        found["GGN, matched λ"] = matched
        found["GGN, matched λ, corrected gradients"] = partial(matched, at="corrected")
        found["GGN, matched λ, predicted end"] = partial(matched, at="predicted")
        found["GGN, matched λ, endpoint"] = partial(matched, at="endpoint")
    return found


def by_horizon(make, measured, net, problem, known: dict) -> np.ndarray:
    """Scores at every horizon; ``known`` keeps those of each attributor, as some stay the same."""
    found = []
    for epochs in measured.horizons:
        attributor = make(int(epochs))
        key = str(attributor.get_params()), type(attributor)
        if key not in known:
            known[key] = attributor.fit(net, *problem.train).score(*problem.test)
        found.append(measured.pick(known[key]))
    return np.stack(found)


def seed_curve(gold, picked: dict, test: tuple) -> tuple[list[int], dict]:
    """Best cosine over the horizons, mean over blocks of so many seeds."""
    sizes = [size for size in (1, 2, 5, 10) if 2 * size <= len(gold.seeds_)]
    if not sizes or not picked:
        return sizes, {}
    return sizes, agreement_by_seeds(gold.iter_seeds(*test), picked, n_repeats=sizes).best()


def judged(make, measured, net, problem, known=None) -> tuple[dict, np.ndarray | None]:
    """Agreement of a method with the gold standard, or its error; and its scores."""
    try:
        scores = by_horizon(make, measured, net, problem, {} if known is None else known)
    except (ValueError, MemoryError, RuntimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}, None
    result = measured.agreement(scores)
    ceiling = np.where(result.halves_disagree, None, result.cosine_ceiling)
    return {
        "horizons": [int(h) for h in measured.horizons],
        "cosine": result.cosine,
        "cosine_se": result.cosine_se,
        "spearman": result.spearman,
        "ceiling": ceiling,
        "split_half": result.split_half,
    }, scores


def allowed(ceiling: float | None) -> str:
    """The noise ceiling, or why there is none."""
    return "halves disagree" if ceiling is None else short(ceiling)
