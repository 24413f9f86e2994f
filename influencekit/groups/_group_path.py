"""The damping path of a Fisher matrix of groups: columns are groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.curvature._spectrum import CoordinatePath, SubsetSums

__all__ = ["GroupPath", "group_path"]

#: Eigenvalues up to this share of the largest count as zero.
_TOLERANCE = 1e-12


@dataclass
class GroupSpectrum:
    """Eigenvalues of ``BᵀB`` that are not zero, and the groups in their eigenvectors.

    Attributes
    ----------
    eigenvalues, data_eigenvalues : Tensor of shape (rank,)
    train_coordinates : Tensor of shape (n_groups, rank)
    """

    eigenvalues: Tensor
    data_eigenvalues: Tensor
    train_coordinates: Tensor

    def inverse(self, damping: float) -> Tensor:
        """Eigenvalues of the damped inverse."""
        return 1 / (self.eigenvalues + damping)


@dataclass
class GroupPath(CoordinatePath):
    """Path over groups, some of whose gradients may lie outside the matrix's span.

    Attributes
    ----------
    outside : Tensor of shape (n_query, n_groups)
        Inner products of what lies outside, where the damping stands alone.
    """

    outside: Tensor

    def products(self, damping):
        return super().products(damping) + self.outside / damping

    def subset_sums(self, masks):
        return GroupSums(self, np.asarray(masks, dtype=np.float64))


@dataclass
class GroupSums(SubsetSums):
    """Sums of group scores.

    Attributes
    ----------
    path : GroupPath
    masks : ndarray of shape (n_subsets, n_groups)
    """

    path: GroupPath
    masks: np.ndarray

    def at(self, damping):
        dampings = np.asarray(damping, dtype=np.float64)
        sums = np.stack([self.path.scores(float(d)) @ self.masks.T for d in np.ravel(dampings)])
        return sums.reshape(*dampings.shape, *sums.shape[1:])


def group_path(
    rows: Tensor, right: Tensor, gram: Tensor, pushed: Tensor, direct: Tensor
) -> GroupPath:
    """Path of ``-vᵀ (BᵀB + λI)⁻¹ R`` for rows B and R, from products with queries.

    Parameters
    ----------
    rows, right : Tensor of shape (n_groups, p)
        B and R.
    gram : Tensor of shape (n_groups, n_groups)
        ``BBᵀ``.
    pushed, direct : Tensor of shape (n_query, n_groups)
        ``vᵀ Bᵀ`` and ``vᵀ Rᵀ``.

    Returns
    -------
    GroupPath
    """
    values, vectors = torch.linalg.eigh(gram)
    seen = values > _TOLERANCE * values.max()
    values, basis = values[seen], vectors[:, seen] / values[seen].sqrt()
    groups, coordinates = right @ (rows.T @ basis), pushed @ basis
    spectrum: Any = GroupSpectrum(values, values, groups)
    outside = direct - coordinates @ groups.T
    return GroupPath(spectrum, coordinates, gram.new_ones(len(gram)), outside)
