"""Scores, the surrogate indicator and subset sums for every damping at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from influencekit.curvature._spectrum import CoordinateSpectrum

__all__ = ["CoordinatePath", "DampingPath", "SubsetSums", "check_masks"]

#: Numbers that the damped queries of one product may take.
_CHUNK = 2**19


class SubsetSums(ABC):
    """Sums of scores over subsets of the training examples, at any damping."""

    @abstractmethod
    def at(self, damping) -> np.ndarray:
        """Sum of each query's scores over each subset.

        Parameters
        ----------
        damping : float or array-like of shape (n_dampings,)

        Returns
        -------
        ndarray of shape (n_query, n_subsets) or (n_dampings, n_query, n_subsets)
        """


class DampingPath(ABC):
    """Queries and training examples in the eigenbasis of one curvature.

    Everything here is a function of the damping λ that costs elementwise work or one matrix
    product; gradients and the eigendecomposition are behind us.

    Attributes
    ----------
    train_weights : Tensor of shape (n_train,), float64
        ``w_j / W``.
    """

    train_weights: Tensor

    @abstractmethod
    def products(self, damping: float) -> Tensor:
        """``<∇f_i, (A + λI)⁻¹ ∇loss_j>``, shape (n_query, n_train)."""

    @abstractmethod
    def xi(self, dampings) -> np.ndarray:
        """Surrogate indicator of every query at every damping, (n_dampings, n_query).

        ``ξ = t_2 / √(t_1 t_3)`` with ``t_k = Σ_j d_j c_j² / (s_j + λ)^k``, where ``d`` are the
        data's shares of the eigenvalues ``s``; λ is added to the penalty that ``s`` holds.
        NaN where a query has no gradient inside the curvature's range.
        """

    @abstractmethod
    def subset_sums(self, masks) -> SubsetSums:
        """Bring subsets of the training examples into the eigenbasis, once for all dampings.

        Parameters
        ----------
        masks : array-like of shape (n_subsets, n_train)

        Returns
        -------
        SubsetSums
        """

    def scores(self, damping: float) -> np.ndarray:
        """Scores ``-<∇f_i, (A + λI)⁻¹ ∇loss_j> w_j / W``, shape (n_query, n_train)."""
        products = self.products(damping)
        return products.mul_(-self.train_weights.to(products)).cpu().double().numpy()


def check_masks(masks, n_train: int) -> np.ndarray:
    """Masks as floats, or an error that says which columns they need."""
    masks = np.asarray(masks, dtype=np.float64)
    if masks.ndim != 2 or masks.shape[1] != n_train:
        raise ValueError(
            f"masks: got shape {masks.shape}; accepted is (n_subsets, {n_train}), a column "
            "for each training row that the model learned from: masks[:, train_rows_]."
        )
    return masks


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
        step = max(1, _CHUNK // max(1, left.numel()))
        for start in range(0, dampings.size, step):
            some = dampings.reshape(-1)[start : start + step]
            inverses = torch.stack([self.path.spectrum.inverse(float(d)) for d in some])
            rows = (left * inverses.to(dtype)[:, None]).flatten(0, 1)
            sums[start : start + step] = (rows @ right).unflatten(0, (len(some), -1)).cpu().numpy()
        return sums.reshape(*dampings.shape, *sums.shape[1:])
