"""Spectra in parameter space whose training coordinates are not held: sparse or long tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._spectrum import (
    CoordinatePath,
    CoordinateSpectrum,
    DampingPath,
    Spectrum,
)
from influencekit.gradients._gradients import Gradients
from influencekit.gradients._sparse_rows import sparse_rows
from influencekit.utils._long_work import chunks

__all__ = ["UnheldSpectrum", "held_train", "with_train"]

#: Number of training rows from which coordinates of small gradients are not held.
LONG = 50_000


@dataclass(repr=False)  # in one line, as all curvatures
class UnheldSpectrum(CoordinateSpectrum):
    """Spectrum of a model whose gradients, as factors, are small beside their coordinates.

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
        moved = self.basis.to(coordinates.dtype) @ coordinates.mT
        return (self.problem.train @ moved.to(self.basis.dtype)).mT.contiguous()

    def train_sums(self, weights: Tensor) -> Tensor:
        # (W G) V
        return self.problem.train.sums(weights.to(self.basis.dtype)) @ self.basis

    def train_path(self, rows: Tensor) -> DampingPath:
        coordinates = self.coordinates(self.problem.train.take(rows)).to(torch.float64)
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def row_sizes(self) -> Tensor:
        return Spectrum.row_sizes(self)

    def restrict(self, columns: Tensor) -> UnheldSpectrum:
        problem = self.problem.take(columns)
        return replace(self, problem=replace(problem, train=held_train(problem)))

    def self_products(self, damping: float) -> Tensor:
        return self.some_self_products(torch.arange(len(self.problem.train)), damping)

    def some_self_products(self, rows: Tensor, damping: float) -> Tensor:
        """Products of some training rows' gradients with themselves, float64."""
        train, inverse = self.problem.train, self.inverse(damping)
        found = torch.empty(len(rows), dtype=torch.float64)
        for part in chunks(len(rows), 16 * len(inverse), train.engine.workspace):
            # Σ_k c_k² / (s_k + λ)
            coordinates = self.coordinates(train.take(rows[part])).to(inverse.dtype)
            found[part] = coordinates.square() @ inverse
        return found


def _long(problem: CurvatureProblem, basis: Tensor) -> bool:
    """Whether coordinates of all rows take much more time and memory than their gradients."""
    rows, coordinates = len(problem.train), basis.shape[1] * basis.element_size()
    return rows >= LONG and 4 * problem.train.sample.nbytes <= coordinates


def held_train(problem: CurvatureProblem) -> Gradients:
    """The training gradients, kept if they take a small part of the memory."""
    return problem.train.held(problem.engine.kept_memory)


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
        if not _long(problem, spectrum.basis):
            return replace(spectrum, train_coordinates=spectrum.coordinates(problem.train))
        problem = replace(problem, train=held_train(problem))
    return UnheldSpectrum(
        spectrum.eigenvalues,
        spectrum.data_eigenvalues,
        spectrum.basis.new_empty(0),
        spectrum.tolerance,
        problem,
        spectrum.basis,
    )
