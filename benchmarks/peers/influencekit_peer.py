"""Our side, with the settings that the peers get.

Scores are ``q_i' (C + damping)^-1 g_j / n`` as they come; TracIn's and TRAK's as theirs.
Each method has the explicit matrix that the peers' method of that name stands for.
"""

from __future__ import annotations

import warnings

from torch import nn

from benchmarks.problems.tensors import Problem
from influencekit import TRAK, GradDot, InfluenceFunction, TracIn, as_task
from influencekit.curvature import CURVATURES
from influencekit.models import SequenceCrossEntropy

PACKAGE = "influencekit"


def default_damping(method: str, n: int) -> str:
    """What the library takes when no damping is given: chosen from the data."""
    return "auto"


def _task(problem: Problem, state: dict | None = None):
    model = problem.fresh_model()
    if state is not None:
        model.load_state_dict(state)
    loss = SequenceCrossEntropy() if problem.y.ndim > 1 else nn.CrossEntropyLoss()
    return as_task(model, loss=loss)


def _score(problem: Problem, attributor, model=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attributor.fit(model or _task(problem), problem.X, problem.y)
        return attributor.score(problem.X_test, problem.y_test)


def graddot(problem: Problem):
    return _score(problem, GradDot()) / problem.n, {}


def tracin(problem: Problem):
    states, weights = zip(*problem.checkpoints, strict=True)
    models = [_task(problem, state) for state in states]
    return _score(problem, TracIn(learning_rates=list(weights)), models), {"weights": weights}


def _trak(problem: Problem, dim: int | None, projection: str = "auto"):
    s = problem.settings
    options = {"damping": s.damping, "projection_dim": dim, "random_state": s.seed}
    options["projection"] = projection
    return _score(problem, TRAK(**options)), options


def trak(problem: Problem):
    return _trak(problem, problem.settings.proj_dim, "rademacher")


def trak_factored(problem: Problem):
    """The same number of dimensions, drawn so that no gradient is formed."""
    return _trak(problem, problem.settings.proj_dim, "factored")


def trak_two_sided(problem: Problem):
    return _trak(problem, problem.settings.proj_dim, "two_sided")


def trak_exact(problem: Problem):
    return _trak(problem, None)


def _influence(problem: Problem, name: str, **parameters):
    """Scores of a curvature by name; parameters that its class has not are reported."""
    kind = CURVATURES[name]
    known = kind().get_params()
    taken = {key: value for key, value in parameters.items() if key in known}
    curvature = kind(**taken)
    s = problem.settings
    influence = InfluenceFunction(curvature, damping=s.damping, random_state=s.seed)
    scores = _score(problem, influence)
    options = {"curvature": repr(curvature), "damping": s.damping}
    left_out = sorted(set(parameters) - set(taken))
    return scores, {**options, "not_parameters": left_out} if left_out else options


METHODS = {
    "graddot": graddot,
    "tracin": tracin,
    "trak": trak,
    "trak_factored": trak_factored,
    "trak_two_sided": trak_two_sided,
    "trak_exact": trak_exact,
}
ONLY_TINY = {"trak_exact", "explicit"}


def _add(method: str, name: str, parameters=lambda settings: {}) -> None:
    """One method, where the installed version has the curvature."""
    if name in CURVATURES:
        METHODS[method] = lambda problem: _influence(problem, name, **parameters(problem.settings))


_add("explicit", "hessian", lambda s: {"negative": "keep"})
_add(
    "cg",
    "cg",
    lambda s: {
        "matrix": "hessian",
        "rtol": 1e-7,
        "max_iter": s.cg_steps,
        "preconditioner": None,
    },
)
_add("cg_preconditioned", "cg", lambda s: {"matrix": "hessian", "rtol": 1e-4})
_add(
    "lissa",
    "lissa",
    lambda s: {
        "matrix": "hessian",
        "scale": s.lissa_scale,
        "depth": s.lissa_depth,
        "batch_size": s.lissa_batch,
    },
)
_add(
    "arnoldi",
    "arnoldi",
    lambda s: {
        "matrix": "hessian",
        "rank": s.rank,
        "n_iterations": s.krylov_dim,
        "complement": "drop",
    },
)
_add("nystroem", "nystroem", lambda s: {"rank": s.rank})
_add("nystroem_hessian", "nystroem", lambda s: {"rank": s.rank, "matrix": "hessian"})
_add("fisher", "fisher")
_add("ggn", "ggn")
_add("datainf", "datainf")
_add("datainf_full", "datainf", lambda s: {"blocks": "all"})
for _name in ("kfac", "ekfac"):
    _add(_name, _name, lambda s: {"fisher": "sampled", "n_samples": 1})
    _add(f"{_name}_true", _name, lambda s: {"fisher": "true"})
    _add(f"{_name}_empirical", _name, lambda s: {"fisher": "empirical"})
