"""Curvature matrices and their factorisations."""

from influencekit.curvature._damping import auto_damping, damping_range
from influencekit.curvature._decompose import DecompositionPlan, decompose, plan_decomposition
from influencekit.curvature._path import DampingPath
from influencekit.curvature._rows import CURVATURES, CurvatureRows, curvature_rows
from influencekit.curvature._spectrum import Spectrum

__all__ = [
    "CURVATURES",
    "CurvatureRows",
    "DampingPath",
    "DecompositionPlan",
    "Spectrum",
    "auto_damping",
    "damping_range",
    "curvature_rows",
    "decompose",
    "plan_decomposition",
]
