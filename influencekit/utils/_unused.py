"""Parameters that nothing uses given the values of others: a table of rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["unused_parameters"]

#: Why a parameter is not used given the others, by its name.
Reasons = dict[str, str]


def unused_parameters(estimator: Any) -> Reasons:
    """Parameters without effect given the values of the others, and why.

    Parameters
    ----------
    estimator : BaseEstimator

    Returns
    -------
    dict of str to str
    """
    found: Reasons = {}
    for kind in type(estimator).__mro__:
        if kind.__name__ in _RULES:
            found |= _RULES[kind.__name__](estimator)
    return found


def _influence(one: Any) -> Reasons:
    idle = one.at == "model" and one.damping != "matched"
    return {"further_training": "with at='model'"} if idle else {}


def _trak(one: Any) -> Reasons:
    return {} if one.projection_dim else {"projection": "with projection_dim=None"}


def _index(one: Any) -> Reasons:
    idle = one.projection_dim is None
    return {"projection": "with projection_dim=None"} if idle else {}


def _run(one: Any) -> Reasons:
    return {"n_masks": "with mask_size=None"} if one.mask_size is None else {}


def _run_average(one: Any) -> Reasons:
    damped = any(name.split("__")[-1] == "damping" for name in one.get_params())
    held = type(one.attributor).__name__
    return {} if damped else {"damping_factor": f"by {held}, which has no damping"}


def _conjugate_gradient(one: Any) -> Reasons:
    if one.preconditioner == "nystroem":
        return {}
    return {"preconditioner_rank": f"with preconditioner={one.preconditioner!r}"}


def _kfac(one: Any) -> Reasons:
    exact = one.fisher in ("empirical", "true")
    return {"n_samples": f"with fisher={one.fisher!r}, which draws no labels"} if exact else {}


def _lissa(one: Any) -> Reasons:
    return {"repeats": "with rows_per_step=None: all are the same"} if not one.rows_per_step else {}


def _groups(one: Any) -> Reasons:
    held, found = type(one.attributor).__name__, {}
    if one.curvature == "points":
        found["fisher_form"] = "with curvature='points', only for 'groups'"
    if held != "TRAK":
        found["trak_kernel"] = f"by {held}, only by TRAK"
    return found


def _lds(one: Any) -> Reasons:
    return {"study_name": "with storage=None"} if one.storage is None else {}


def _detector(one: Any) -> Reasons:
    found = {}
    if one.method not in ("auto", "rounds"):
        found["n_rounds"] = f"with method={one.method!r}"
    if one.method in ("loss", "margin", "rounds"):
        found["attributor"] = f"with method={one.method!r}"
    return found


def _pruner(one: Any) -> Reasons:
    idle = one.strategy == "random" and not hasattr(one.attributor, "grouper")
    return {"attributor": "with strategy='random'"} if idle else {}


def _posterior(one: Any) -> Reasons:
    found = {"damping_factors": "with prior=None"} if one.prior is None else {}
    if one.n_trainings != "auto":
        why = f"with n_trainings={one.n_trainings!r}, only with 'auto'"
        found |= {"target_lds": why, "max_trainings": why}
    return found


def _shapley(one: Any) -> Reasons:
    return {} if one.method == "permutation" else {"truncation": f"with method={one.method!r}"}


_RULES: dict[str, Callable[[Any], Reasons]] = {
    "InfluenceFunction": _influence,
    "TRAK": _trak,
    "AttributionIndex": _index,
    "TrajectoryInfluence": _run,
    "RunAverage": _run_average,
    "ConjugateGradient": _conjugate_gradient,
    "KFAC": _kfac,
    "LiSSA": _lissa,
    "GroupAttributor": _groups,
    "LDSSearch": _lds,
    "NoisyLabelDetector": _detector,
    "DatasetPruner": _pruner,
    "SubsetPosterior": _posterior,
    "Shapley": _shapley,
}
