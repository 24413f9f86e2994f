"""Spectra and paths of gradients whose coordinates are dense rows."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from influencekit.curvature._path import DampingPath, SubsetSums, check_masks
from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._spectrum import Spectrum
from influencekit.gradients import Gradients
from influencekit.utils import chunks

__all__ = ["CoordinatePath", "CoordinateSpectrum"]

#: Numbers that the damped queries of one product may take.
_CHUNK = 2**19


@dataclass
class CoordinateSpectrum(Spectrum):
    """Spectrum of so low a rank that coordinates of gradients are kept as dense rows.

    Attributes
    ----------
    eigenvalues, data_eigenvalues : Tensor of shape (rank,), float64
    train_coordinates : Tensor of shape (n_train, rank)
        ``Vᵀ ∇loss_j`` of every training example.
    tolerance : float
    problem : CurvatureProblem
    """

    eigenvalues: Tensor
    data_eigenvalues: Tensor
    train_coordinates: Tensor
    tolerance: float
    problem: CurvatureProblem

    @abstractmethod
    def coordinates(self, gradients: Gradients) -> Tensor:
        """``Vᵀ g`` of gradients, (n_rows, rank)."""

    def path(self, queries):
        coordinates = self.coordinates(queries).to(torch.float64)
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def train_path(self, rows):
        coordinates = self.train_coordinates[rows].to(torch.float64)
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def row_sizes(self):
        return self.train_coordinates.double().square().sum(1).cpu()

    def narrowed(self, columns):
        return replace(
            self,
            train_coordinates=self.train_coordinates[columns],
            problem=self.problem.take(columns),
        )

    def self_products(self, damping):
        return self.train_coordinates.to(torch.float64).square() @ self.inverse(damping)


@dataclass
class CoordinatePath(DampingPath):
    """Path of a spectrum whose coordinates are dense rows.

    Attributes
    ----------
    spectrum : CoordinateSpectrum
    query_coordinates : Tensor of shape (n_query, rank), float64
        ``Vᵀ ∇f_i`` of the explained output.
    train_weights : Tensor of shape (n_train,), float64
    """

    spectrum: CoordinateSpectrum
    query_coordinates: Tensor
    train_weights: Tensor

    def products(self, damping):
        train = self.spectrum.train_coordinates
        left = (self.query_coordinates * self.spectrum.inverse(damping)).to(train.dtype)
        return left @ train.mT

    def xi(self, dampings):
        weights = self.query_coordinates.square() * self.spectrum.data_eigenvalues
        inverses = torch.stack([self.spectrum.inverse(float(d)) for d in np.atleast_1d(dampings)])
        # a common factor of the inverses leaves ξ alone and keeps their cubes in range
        inverses = inverses / inverses.amax(1, keepdim=True)
        t1, t2, t3 = (inverses.pow(k) @ weights.mT for k in (1, 2, 3))
        return (t2 / torch.sqrt(t1 * t3)).cpu().numpy()

    def subset_sums(self, masks):
        train = self.spectrum.train_coordinates
        masks = torch.as_tensor(check_masks(masks, len(train)), device=train.device)
        weighted = (masks * self.train_weights).to(train.dtype)
        return CoordinateSums(self, (weighted @ train).to(torch.float64))


@dataclass
class CoordinateSums(SubsetSums):
    """Sums of scores over subsets of the training examples, without a score matrix.

    Attributes
    ----------
    path : CoordinatePath
    coordinates : Tensor of shape (n_subsets, rank), float64
        ``Σ_{j in subset} w_j Vᵀ ∇loss_j / W``.
    """

    path: CoordinatePath
    coordinates: Tensor

    def at(self, damping):
        dampings = np.asarray(damping, dtype=np.float64)
        dtype = self.path.spectrum.train_coordinates.dtype
        left, right = self.path.query_coordinates.to(dtype), -self.coordinates.mT.to(dtype)
        sums = np.empty((dampings.size, left.shape[0], right.shape[1]))
        for at in chunks(dampings.size, left.numel(), _CHUNK):
            some = dampings.reshape(-1)[at]
            inverses = torch.stack([self.path.spectrum.inverse(float(d)) for d in some])
            rows = (left * inverses.to(dtype)[:, None]).flatten(0, 1)
            sums[at] = (rows @ right).unflatten(0, (len(some), -1)).cpu().numpy()
        return sums.reshape(*dampings.shape, *sums.shape[1:])
