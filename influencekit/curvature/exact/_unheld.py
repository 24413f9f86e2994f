"""Spectra in parameter space of models on sparse inputs: training coordinates are not held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._spectrum import CoordinatePath, CoordinateSpectrum, DampingPath
from influencekit.gradients._gradients import Gradients
from influencekit.gradients._sparse_rows import sparse_rows
from influencekit.utils._long_work import chunks

__all__ = ["UnheldSpectrum", "with_train"]


@dataclass(repr=False)  # in one line, as all curvatures
class UnheldSpectrum(CoordinateSpectrum):
    """Spectrum of a linear model whose sparse gradients are small beside their coordinates.

    Attributes
    ----------
    basis : Tensor of shape (p, rank)
        What takes gradients to coordinates.
    """

    basis: Tensor

    def coordinates(self, gradients: Gradients) -> Tensor:
        return gradients @ self.basis

    def train_products(self, coordinates: Tensor) -> Tensor:
        # C Vᵀ Gᵀ = (G (V Cᵀ))ᵀ
        return (self.problem.train @ (self.basis @ coordinates.mT)).mT.contiguous()

    def train_sums(self, weights: Tensor) -> Tensor:
        # (W G) V
        return self.problem.train.sums(weights) @ self.basis

    def train_path(self, rows: Tensor) -> DampingPath:
        coordinates = self.coordinates(self.problem.train.take(rows))
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def row_sizes(self) -> Tensor:
        return self.problem.train.squared_norms()

    def restrict(self, columns: Tensor) -> UnheldSpectrum:
        return replace(self, problem=self.problem.take(columns))

    def self_products(self, damping: float) -> Tensor:
        train, inverse = self.problem.train, self.inverse(damping)
        found = torch.empty(len(train), dtype=torch.float64)
        for rows in chunks(len(train), 16 * len(inverse), train.engine.workspace):
            # Σ_k c_k² / (s_k + λ)
            found[rows] = self.coordinates(train.take(rows)).square() @ inverse
        return found


def with_train(spectrum: Any) -> CoordinateSpectrum:
    """A spectrum in parameter space that knows its training examples.

    Parameters
    ----------
    spectrum : CoordinateSpectrum
        With a ``basis`` for gradients that are not projected.

    Returns
    -------
    CoordinateSpectrum
    """
    problem = spectrum.problem
    if sparse_rows(problem.engine.task, problem.examples) is None:
        return replace(spectrum, train_coordinates=spectrum.coordinates(problem.train))
    return UnheldSpectrum(
        spectrum.eigenvalues,
        spectrum.data_eigenvalues,
        spectrum.basis.new_empty(0),
        spectrum.tolerance,
        problem,
        spectrum.basis,
    )
