"""Attributors with the grids of hyperparameters that ``studies/sensitivity.py`` varies."""

from __future__ import annotations

import numpy as np

from benchmarks.problems.epochs import EPOCHS
from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, TracIn
from influencekit.curvature import CURVATURES

DAMPINGS = ["auto", *np.geomspace(1e-6, 1e1, 15)]
COARSE = ["auto", *np.geomspace(1e-4, 1e1, 6)]
FINE = ["auto", *np.geomspace(1e-7, 1e0, 8)]
N_MODELS = [1, 2, 3, 5]
LAYERS = ("ekfac", "kfac", "datainf", "arnoldi", "nystroem")
NAMES = ["GradDot", "GradCos", "IF fisher", "IF ggn", "TRAK", "TracIn",
         *(f"IF {name}" for name in LAYERS), "IF cg", "IF lissa"]  # fmt: skip


def ages(epochs: int) -> list[int]:
    return [epoch for epoch in EPOCHS if epoch < epochs]


def grids(problem: str, epochs: int, n_models: int) -> dict:
    """Attributors with their grids, by name."""
    return _of_language_models() if problem == "llama" else _of_nets(problem, epochs, n_models)


def _of_language_models() -> dict:
    logra = InfluenceFunction(CURVATURES["logra"](rows="fisher"))
    fisher = {"projection_dim": [16, 64, 256], "damping": FINE}
    return {
        "GradDot": GradDot(),
        "IF fisher": (InfluenceFunction("fisher"), fisher),
        "LoGra": (logra, {"curvature__rank": [2, 4, 8, 16], "damping": FINE}),
    }


def _of_nets(problem: str, epochs: int, n_models: int) -> dict:
    dims = [64, 256, 1024] if problem == "cifar2" else [64, 256, 1024, 2048]
    by_age = {"checkpoint": [*ages(epochs), "final"], "n_models": [1]}
    by_number = {"n_models": [n for n in N_MODELS if n <= n_models]}
    dense = {"damping": DAMPINGS, "n_models": [1]}
    spectral = [
        {"projection_dim": dims, **dense},
        {"damping": COARSE, "projection_dim": dims[2:3], **by_age},
        {"damping": COARSE, "projection_dim": dims[2:3], **by_number},
    ]
    labels = ages(epochs)
    last = {"checkpoint": [(*labels[i:], "final") for i in range(len(labels) + 1)], "n_models": [1]}
    steps = {"curvature__scale": [1.0, 10.0, 100.0, 1000.0], "curvature__depth": [10, 40, 160]}
    lissa = InfluenceFunction(CURVATURES["lissa"]())
    found = {
        "GradDot": (GradDot(), [by_age, by_number]),
        "GradCos": (GradCos(), [by_age, by_number]),
        "IF fisher": (InfluenceFunction("fisher"), spectral),
        "IF ggn": (InfluenceFunction("ggn"), spectral),
        "TRAK": (TRAK(), spectral),
        "TracIn": (TracIn(), last),
        "IF cg": (InfluenceFunction("cg"), {"damping": [1e-2, 1e-1], "n_models": [1]}),
        "IF lissa": (lissa, {**steps, "damping": [1e-2], "n_models": [1]}),
    }
    for name in LAYERS:
        found[f"IF {name}"] = (InfluenceFunction(name), [dense, {"damping": COARSE, **by_age}])
    return found
