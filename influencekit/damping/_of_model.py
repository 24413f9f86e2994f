"""The default damping of an influence function: by kind of model, and by its curvature."""

from __future__ import annotations

import math

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._spectrum import Spectrum
from influencekit.curvature.exact._exact import GaussNewton
from influencekit.curvature.iterative._lissa import LissaCurvature
from influencekit.curvature.layers._datainf import FittedDataInf
from influencekit.damping._default import (
    VANISHING,
    auto_damping,
    damping_from,
    damping_range,
)
from influencekit.damping._least import AT_OPTIMUM, least_damping
from influencekit.models._task import Task
from influencekit.models.losses._deviance import DevianceLoss

__all__ = ["convex_damping", "default_damping", "most_damping", "needs_no_damping"]


def default_damping(fitted: FittedCurvature, task: Task, ratio: float, moved: bool) -> float:
    """Default damping of an influence function.

    Parameters
    ----------
    fitted : FittedCurvature
    task : Task
    ratio : float
        Gradient ratio of the model.
    moved : bool
        Whether the curvature is that at other parameters than the model's.

    Returns
    -------
    float
    """
    if not moved and needs_no_damping(task, ratio):
        return convex_damping(fitted)
    if moved or not isinstance(fitted, Spectrum):
        return auto_damping(fitted)
    damping = damping_from(fitted, least_damping(fitted.settings, fitted, ratio))
    return min(damping, most_damping(fitted, task, ratio))


def needs_no_damping(task: Task, ratio: float) -> bool:
    """Whether a model is linear and at its optimum, or on the way to the only one.

    Parameters
    ----------
    task : Task
    ratio : float
        Gradient ratio of the model.

    Returns
    -------
    bool
        True for a convex objective, and for a generalized linear model whose deviance is not
        convex, if it is at a minimum.
    """
    return task.convex or (isinstance(task.loss, DevianceLoss) and ratio <= AT_OPTIMUM)


def most_damping(fitted: Spectrum, task: Task, ratio: float) -> float:
    """Largest default damping: the smallest penalty of a regression at its optimum.

    If every parameter has a penalty, the Gauss-Newton matrix is regular and that of the objective.
    A damping above the penalty then takes leave-one-out effects away, as for a linear model.

    Parameters
    ----------
    fitted : Spectrum
    task : Task
    ratio : float
        Gradient ratio of the model.

    Returns
    -------
    float
        Infinite for other models and curvatures, after a random projection, and where the penalty
        is within the rounding of the eigenvalues.
    """
    if task.problem_type != "regression" or ratio > AT_OPTIMUM:
        return math.inf
    if not isinstance(fitted.settings, GaussNewton) or is_projected(fitted):
        return math.inf
    smallest = float(fitted.problem.penalty.min())
    rounding = fitted.tolerance * float(fitted.eigenvalues.max())
    return smallest if smallest > rounding else math.inf


def is_projected(fitted: FittedCurvature) -> bool:
    """Whether the curvature is that of randomly projected gradients."""
    return getattr(fitted, "projection", None) is not None


def convex_damping(fitted: FittedCurvature) -> float:
    """Default damping of a linear model at its optimum.

    It is 0, or the smallest that the curvature allows: at an optimum the curvature is that of the
    objective, and a damping that suits one unit of the features does not suit another.  LiSSA and
    DataInf, which need some damping, and a random projection, which mixes small eigenvalues with
    large ones, keep :func:`auto_damping`.

    Parameters
    ----------
    fitted : FittedCurvature

    Returns
    -------
    float
    """
    if is_projected(fitted) or isinstance(fitted, (FittedDataInf, LissaCurvature)):
        return auto_damping(fitted)
    if isinstance(fitted, Spectrum) and not bool((fitted.bounds > VANISHING).any()):
        damping_range(fitted.bounds)  # refuses it
    return fitted.floor
