"""Scores, the surrogate indicator and subset sums for every damping at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from influencekit.curvature._spectrum import Spectrum

__all__ = ["DampingPath", "SubsetSums"]

#: Numbers that the damped queries of one product may take.
_CHUNK = 2**19


@dataclass
class DampingPath:
    """Queries and training examples in the eigenbasis of one curvature.

    Everything here is a function of the damping λ that costs elementwise work or one matrix
    product; gradients and the eigendecomposition are behind us.

    Attributes
    ----------
    spectrum : Spectrum
    query_coordinates : Tensor of shape (n_query, rank), float64
        ``Vᵀ ∇f_i`` of the explained output.
    train_weights : Tensor of shape (n_train,), float64
        ``w_j / W``.
    """

    spectrum: Spectrum
    query_coordinates: Tensor
    train_weights: Tensor

    def scores(self, damping: float) -> np.ndarray:
        """Scores ``-<∇f_i, (A + λI)⁻¹ ∇loss_j> w_j / W``, shape (n_query, n_train)."""
        train = self.spectrum.train_coordinates
        left = (self.query_coordinates * self.spectrum.inverse(damping)).to(train.dtype)
        scores = left @ train.mT
        return scores.mul_(-self.train_weights.to(scores.dtype)).cpu().double().numpy()

    def xi(self, dampings) -> np.ndarray:
        """Surrogate indicator of every query at every damping, (n_dampings, n_query).

        ``ξ = t_2 / √(t_1 t_3)`` with ``t_k = Σ_j d_j c_j² / (s_j + λ)^k``, where ``d`` are the
        data's shares of the eigenvalues ``s``; λ is added to the penalty that ``s`` holds.
        NaN where a query has no gradient inside the curvature's range.
        """
        weights = self.query_coordinates.square() * self.spectrum.data_eigenvalues
        inverses = torch.stack([self.spectrum.inverse(float(d)) for d in np.atleast_1d(dampings)])
        # a common factor of the inverses leaves ξ alone and keeps their cubes in range
        inverses = inverses / inverses.amax(1, keepdim=True)
        t1, t2, t3 = (inverses.pow(k) @ weights.mT for k in (1, 2, 3))
        return (t2 / torch.sqrt(t1 * t3)).cpu().numpy()

    def subset_sums(self, masks) -> SubsetSums:
        """Bring subsets of the training examples into the eigenbasis, once for all dampings.

        Parameters
        ----------
        masks : array-like of shape (n_subsets, n_train)

        Returns
        -------
        SubsetSums
        """
        train = self.spectrum.train_coordinates
        masks = np.asarray(masks, dtype=np.float64)
        if masks.ndim != 2 or masks.shape[1] != len(train):
            raise ValueError(
                f"masks: got shape {masks.shape}; accepted is (n_subsets, {len(train)}), a column "
                "for each training row that the model learned from: masks[:, train_rows_]."
            )
        weighted = torch.as_tensor(masks, device=train.device)
        weighted = (weighted * self.train_weights).to(train.dtype)
        return SubsetSums(self, (weighted @ train).to(torch.float64))


@dataclass
class SubsetSums:
    """Sums of scores over subsets of the training examples, without a score matrix.

    Attributes
    ----------
    path : DampingPath
    coordinates : Tensor of shape (n_subsets, rank), float64
        ``Σ_{j in subset} w_j Vᵀ ∇loss_j / W``.
    """

    path: DampingPath
    coordinates: Tensor

    def at(self, damping) -> np.ndarray:
        """Sum of each query's scores over each subset.

        Parameters
        ----------
        damping : float or array-like of shape (n_dampings,)

        Returns
        -------
        ndarray of shape (n_query, n_subsets) or (n_dampings, n_query, n_subsets)
        """
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
