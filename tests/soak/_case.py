"""One random case, determined by its seed."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.harness.limit import OverLimit, limit
from influencekit.exceptions import InfluenceKitWarning
from tests.soak._laws import (
    LAWS,
    BrokenLaw,
    Checked,
    autograd,
    finite,
    state_of_the_world,
)
from tests.soak._options import draw_options
from tests.soak._problems import draw_problem

#: Seconds of computing after which a law counts as broken.
_LONGEST = 60


def failures_of(seed) -> list[dict]:
    """What is wrong in the case of a seed: a record for each law that does not hold."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", InfluenceKitWarning)
        problem = draw_problem(rng)
        options = draw_options(rng, problem)
        weighted = rng.random() < 0.3
        weights = rng.uniform(0.2, 3.0, len(problem.X)) if weighted else None
        case = Checked(problem, options, weights, rng)
        return [{"seed": seed, **found, **_described(case)} for found in _broken(case)]


def _described(case) -> dict:
    p = case.problem
    return {
        "model": p.name,
        "data": f"{p.X.dtype}{list(p.X.shape)}, {len(p.X_query)} queries",
        "attributor": " ".join(repr(case.options.attributor).split()),
        "weights": case.weights is not None,
    }


def _broken(case) -> Iterator[dict]:
    before = state_of_the_world(case.problem)
    for law in (autograd, finite, *LAWS):
        if law in LAWS and case.scores is None:
            break  # refused
        try:
            with limit(_LONGEST):
                law(case)
        except BrokenLaw as error:
            yield {"law": error.law, "seen": str(error)}
        except (Exception, OverLimit) as error:
            yield {"law": law.__name__, "seen": f"{type(error).__name__}: {error}"}
    after = state_of_the_world(case.problem)
    for name, value in before.items():
        if after[name] != value:
            yield {"law": f"unchanged: {name}", "seen": f"{value!r:.80} became {after[name]!r:.80}"}
