"""Curvature matrices and their factorisations."""

from influencekit.curvature._base import FittedCurvature, SolvedCurvature
from influencekit.curvature._mean_path import MeanPath
from influencekit.curvature._operators import CurvatureOperator
from influencekit.curvature._problem import (
    CURVATURES,
    Curvature,
    CurvatureProblem,
    CurvatureRows,
    fisher_rows,
    ggn_rows,
    make_curvature,
)
from influencekit.curvature._solution import Solution
from influencekit.curvature._spectrum import (
    CoordinatePath,
    CoordinateSpectrum,
    DampingPath,
    Spectrum,
    SubsetSums,
)
from influencekit.curvature.exact._exact import (
    DecompositionPlan,
    EmpiricalFisher,
    GaussNewton,
    decompose,
    plan_decomposition,
)
from influencekit.curvature.exact._hessian import Hessian
from influencekit.curvature.iterative._conjugate_gradient import ConjugateGradient
from influencekit.curvature.iterative._lissa import LiSSA
from influencekit.curvature.kronecker import EKFAC, KFAC
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
    "Hessian",
    "LiSSA",
    "Nystroem",
    "CoordinatePath",
    "CoordinateSpectrum",
    "Curvature",
    "CurvatureOperator",
    "CurvatureProblem",
    "CurvatureRows",
    "DampingPath",
    "DataInf",
    "DecompositionPlan",
    "EmpiricalFisher",
    "FittedCurvature",
    "GaussNewton",
    "LoGra",
    "MeanPath",
    "Solution",
    "SolvedCurvature",
    "Spectrum",
    "SubsetSums",
    "decompose",
    "fisher_rows",
    "ggn_rows",
    "make_curvature",
    "plan_decomposition",
]
