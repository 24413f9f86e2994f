"""Scores, the surrogate indicator and subset sums for every damping at once."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

__all__ = ["DampingPath", "SubsetSums", "check_masks"]


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
