"""A damping for people who choose none, whatever the curvature."""

from __future__ import annotations

from functools import singledispatch

from influencekit.curvature import FittedCurvature, Spectrum
from influencekit.curvature.iterative._lissa import LissaCurvature
from influencekit.curvature.layers._datainf import FittedDataInf
from influencekit.curvature.low_rank._low_rank import LowRankSpectrum
from influencekit.damping._cosine import spectrum_damping
from influencekit.damping._sketch import sketch_damping

__all__ = ["auto_damping", "convex_damping"]

#: Default damping of DataInf in units of the gradients' mean squared entry: the paper's.
PAPER_DAMPING = 0.1


@singledispatch
def auto_damping(fitted: FittedCurvature) -> float:
    """Damping of a fitted curvature for people who choose none.

    That of its eigenvalues, see :func:`spectrum_damping`; where it has none, or too few to show
    the small ones, that of a projected Gauss-Newton matrix, see :func:`sketch_damping`; and at
    least ``fitted.floor``.  ``auto_damping.register`` teaches it another kind of curvature.

    Parameters
    ----------
    fitted : FittedCurvature

    Returns
    -------
    float
    """
    return max(sketch_damping(fitted.problem), fitted.floor)


@auto_damping.register
def _of_spectrum(fitted: Spectrum) -> float:
    return max(spectrum_damping(fitted), fitted.floor)


@auto_damping.register
def _of_low_rank(fitted: LowRankSpectrum) -> float:
    return max(sketch_damping(fitted.problem) + fitted.missing, fitted.floor)


@auto_damping.register
def _of_datainf(fitted: FittedDataInf) -> float:
    return PAPER_DAMPING * fitted.unit


def convex_damping(fitted: FittedCurvature) -> float:
    """Damping of a convex linear model for people who choose none.

    0, or the least that the curvature can carry: at an optimum the curvature is that of the
    objective, and an amount that is right in one unit of the features is not in another.  LiSSA
    and DataInf, which need some damping, and a random projection, which mixes small eigenvalues
    with large ones, keep :func:`auto_damping`.

    Parameters
    ----------
    fitted : FittedCurvature

    Returns
    -------
    float
    """
    projected = getattr(fitted, "projection", None) is not None
    if projected or isinstance(fitted, (FittedDataInf, LissaCurvature)):
        return auto_damping(fitted)
    return fitted.floor
