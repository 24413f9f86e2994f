"""Curvatures by name."""

from __future__ import annotations

from influencekit.curvature._base import Curvature
from influencekit.curvature.exact._exact import EmpiricalFisher, GaussNewton
from influencekit.curvature.exact._hessian import Hessian
from influencekit.curvature.iterative._conjugate_gradient import ConjugateGradient
from influencekit.curvature.iterative._lissa import LiSSA
from influencekit.curvature.kronecker import EKFAC, KFAC
from influencekit.curvature.layers._datainf import DataInf
from influencekit.curvature.layers._logra import LoGra
from influencekit.curvature.low_rank._arnoldi import Arnoldi
from influencekit.curvature.low_rank._nystroem import Nystroem

__all__ = ["CURVATURES", "make_curvature"]

CURVATURES: dict[str, type[Curvature]] = {
    "ggn": GaussNewton,
    "fisher": EmpiricalFisher,
    "hessian": Hessian,
    "cg": ConjugateGradient,
    "lissa": LiSSA,
    "arnoldi": Arnoldi,
    "nystroem": Nystroem,
    "kfac": KFAC,
    "ekfac": EKFAC,
    "datainf": DataInf,
    "logra": LoGra,
}


def make_curvature(curvature: str | Curvature) -> Curvature:
    """Curvature of a name with its default parameters; an object is returned as it is.

    Parameters
    ----------
    curvature : str or Curvature
        A key of ``CURVATURES``, or an object.

    Returns
    -------
    Curvature
    """
    return CURVATURES[curvature]() if isinstance(curvature, str) else curvature
