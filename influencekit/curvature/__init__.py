"""Curvature matrices and their factorizations."""

from influencekit.curvature._base import FittedCurvature, SolvedCurvature
from influencekit.curvature._problem import (
    CURVATURES,
    Curvature,
    CurvatureProblem,
    CurvatureRows,
    make_curvature,
)
from influencekit.curvature._solution import Solution
from influencekit.curvature.exact._exact import decompose
from influencekit.curvature.exact._hessian import Hessian
from influencekit.curvature.iterative._conjugate_gradient import ConjugateGradient
from influencekit.curvature.iterative._lissa import LiSSA
from influencekit.curvature.kronecker._kfac import EKFAC, KFAC
from influencekit.curvature.layers._datainf import DataInf
from influencekit.curvature.layers._logra import LoGra
from influencekit.curvature.low_rank._arnoldi import Arnoldi
from influencekit.curvature.low_rank._nystroem import Nystroem

__all__ = [
    "CURVATURES",
    "EKFAC",
    "KFAC",
    "Arnoldi",
    "ConjugateGradient",
    "Curvature",
    "CurvatureProblem",
    "CurvatureRows",
    "DataInf",
    "FittedCurvature",
    "Hessian",
    "LiSSA",
    "LoGra",
    "Nystroem",
    "Solution",
    "SolvedCurvature",
    "decompose",
    "make_curvature",
]
