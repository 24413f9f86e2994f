"""Attributors by the names that tables show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.base import clone

from influencekit import (
    TRAK,
    GradCos,
    GradDot,
    InfluenceFunction,
    LossBaseline,
    RandomBaseline,
    TracIn,
)
from influencekit.curvature import (
    CURVATURES,
    EKFAC,
    KFAC,
    Arnoldi,
    ConjugateGradient,
    DataInf,
    Hessian,
    LoGra,
    Nystroem,
)
from influencekit.models import load_checkpoints
from influencekit.training import train_checkpoints

SINGLE: dict[str, Callable] = {
    "Random": lambda: RandomBaseline(random_state=0),
    "Loss": LossBaseline,
    "GradDot": GradDot,
    "GradCos": GradCos,
    "TracIn, 5 checkpoints": TracIn,
    "TRAK": lambda: TRAK(random_state=0),
    "TRAK x 5": lambda: TRAK(random_state=0),
    "ggn x 5": lambda: InfluenceFunction("ggn"),
    "ekfac x 5": lambda: InfluenceFunction("ekfac"),
}
#: Curvatures with other parameters than their own, by the name of what they vary.
VARIANTS: dict[str, dict[str, Callable]] = {
    "hessian": {f"hessian, {way}": lambda way=way: Hessian(way) for way in ("absolute", "keep")},
    "low rank": {
        "arnoldi, rank 100": lambda: Arnoldi(100),
        "arnoldi, rank 30": lambda: Arnoldi(30),
        "arnoldi, rank 100, no complement": lambda: Arnoldi(100, complement="drop"),
        "arnoldi, rank 100, hessian": lambda: Arnoldi(100, "hessian"),
        "nystroem, rank 300": lambda: Nystroem(300),
        "nystroem, rank 100": lambda: Nystroem(100),
        "nystroem, rank 30": lambda: Nystroem(30),
        "nystroem, rank 100, hessian": lambda: Nystroem(100, "hessian"),
    },
    "solvers": {
        "cg, no preconditioner": lambda: ConjugateGradient(preconditioner=None),
        "cg, hessian": lambda: ConjugateGradient("hessian"),
    },
    "kronecker": {
        "kfac, all labels": lambda: KFAC("true"),
        "ekfac, all labels": lambda: EKFAC("true"),
        "ekfac, drawn labels": lambda: EKFAC("sampled", random_state=0),
        "ekfac, given labels": lambda: EKFAC("empirical"),
    },
    "datainf": {"datainf, scaled": lambda: DataInf(scaled=True)},
    "logra": {
        f"logra, {init}, {rows}, rank {rank}": lambda init=init, rows=rows, rank=rank: LoGra(
            rank, init=init, rows=rows, random_state=0
        )
        for init in ("pca", "random")
        for rows in ("ggn", "fisher")
        for rank in (4, 8, 16, 32, 64)
    },
}
NAMED = {name: make for group in VARIANTS.values() for name, make in group.items()}


def as_they_come() -> list[str]:
    """Every attributor with no parameter set."""
    several = [name for name in SINGLE if name.endswith("x 5")]
    alone = [name for name in SINGLE if name not in several or name == "TRAK x 5"]
    return [*alone, *CURVATURES, *(name for name in several if name not in alone)]


def make(name: str, random_state: int = 0, **options):
    """The unfitted attributor of a name; "ggn, 512" is projected to 512 dimensions."""
    if name in SINGLE:
        return SINGLE[name]()
    if name in NAMED:
        return InfluenceFunction(NAMED[name](), random_state=random_state, **options)
    kind, _, dim = name.partition(", ")
    dim = {"projection_dim": int(dim)} if dim else {}
    return InfluenceFunction(kind, random_state=random_state, **dim, **options)


def models_of(name: str, problem, model, n_more: int = 4):
    """The model or models that an attributor of this name is given."""
    if "checkpoints" in name:
        last = problem.spec.recipe["max_epochs"]
        epochs = np.unique(np.linspace(1, last, 5).astype(int))
        states = train_checkpoints(model, *problem.train, list(epochs), random_state=0)
        return load_checkpoints(model, states.values())
    if not name.endswith("x 5"):
        return model
    found = [model]
    for seed in range(101, 101 + n_more):
        torch.manual_seed(seed)
        found.append(clone(model).fit(*problem.train))
    return found
