"""Random attributors with random options, and what is to be expected of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, LossBaseline, TracIn
from influencekit.curvature import CURVATURES

#: Curvatures whose random numbers go by the position of a training row.
BY_POSITION = {"lissa", "nystroem", "arnoldi"}


@dataclass
class Options:
    """An attributor, whether it looks at the order of rows, and how exact its scores are."""

    attributor: Any
    by_position: bool
    tolerance: float  # relative to the largest score, in float64


def margin_of_one(outputs, targets):
    """An output of the user's own."""
    return outputs.reshape(len(outputs), -1)[:, 0].tanh()


def draw_options(rng, problem) -> Options:
    """A random attributor for a problem."""
    shared = {
        "batch_size": [None, 1, 3, 7, 100][rng.integers(5)],
        "max_memory": [None, "2MB", "50MB"][rng.integers(3)],
        "output": _output(rng, problem),
    }
    kind = rng.choice(["dot", "cos", "tracin", "loss", "trak", "influence"],
                      p=[0.1, 0.1, 0.1, 0.05, 0.15, 0.5])  # fmt: skip
    damping = float(10 ** rng.uniform(-2, 1))
    seeded = {"random_state": int(rng.integers(1000))}
    if kind == "influence":
        return _influence(rng, problem, damping, {**shared, **seeded})
    made = {
        "dot": lambda: GradDot(**shared),
        "cos": lambda: GradCos(**shared),
        "tracin": lambda: TracIn(float(10 ** rng.uniform(-3, 0)), **shared),
        "loss": lambda: LossBaseline(batch_size=shared["batch_size"]),
        "trak": lambda: TRAK(
            ["auto", damping][rng.integers(2)], int(rng.integers(2, 40)), **shared, **seeded
        ),
    }[kind]()
    return Options(made, False, 1e-4 if kind == "trak" else 1e-8)


def _influence(rng, problem, damping, shared) -> Options:
    curvature = str(rng.choice(["auto", *CURVATURES]))
    damping = "auto" if rng.random() < 0.2 else damping
    projection = {}
    if curvature in ("ggn", "fisher") and rng.random() < 0.4:
        kinds = ["auto", "rademacher", "gaussian", "factored", "two_sided"]
        projection = {"projection_dim": int(rng.integers(2, 30)),
                      "projection": str(rng.choice(kinds))}  # fmt: skip
    made = InfluenceFunction(curvature, damping, **projection, **shared)
    iterative = curvature in ("cg", "lissa", "arnoldi", "nystroem")
    loose = 1e-2 if iterative else 1e-3 if damping == "auto" or curvature == "hessian" else 1e-5
    return Options(made, curvature in BY_POSITION, loose)


def _output(rng, problem):
    named = ["auto", "neg_loss", margin_of_one]
    named += ["margin", "logit"] if problem.classifies else []
    return named[rng.integers(len(named))]
