"""Curvatures by name."""

from __future__ import annotations

from influencekit.curvature._arnoldi import Arnoldi
from influencekit.curvature._base import Curvature
from influencekit.curvature._conjugate_gradient import ConjugateGradient
from influencekit.curvature._datainf import DataInf
from influencekit.curvature._exact import EmpiricalFisher, GaussNewton
from influencekit.curvature._hessian import Hessian
from influencekit.curvature._lissa import LiSSA
from influencekit.curvature._logra import LoGra
from influencekit.curvature._nystroem import Nystroem
from influencekit.curvature.kronecker import EKFAC, KFAC

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
