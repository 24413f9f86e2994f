"""A factorised curvature: everything that scores at any damping need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Spectrum", "damped_inverse"]


@dataclass
class Spectrum(ABC):
    """Eigendecomposition ``A = V diag(s) Vᵀ`` of a curvature ``A = F + R`` without damping.

    ``F`` is the mean curvature of the data, ``R`` the penalty of the training objective.
    With coordinates ``c = Vᵀg`` of gradients, ``<g, (A + λI)⁻¹ h> = Σ_k c_k d_k / (s_k + λ)``
    for every λ from the one decomposition.

    Attributes
    ----------
    eigenvalues : Tensor of shape (rank,), float64
        ``s``, ascending.
    data_eigenvalues : Tensor of shape (rank,), float64
        ``v_kᵀ F v_k``: the data's share of each eigenvalue.
    train_coordinates : Tensor of shape (n_train, rank)
        ``Vᵀ ∇loss_j`` of every training example.
    tolerance : float
        Eigenvalues up to ``tolerance * max`` count as zero when the damping is 0.
    """

    eigenvalues: Tensor
    data_eigenvalues: Tensor
    train_coordinates: Tensor
    tolerance: float

    @abstractmethod
    def coordinates(self, examples, cotangent) -> Tensor:
        """``Vᵀ g`` of the gradients that a cotangent function asks for, (n_rows, rank)."""

    def inverse(self, damping: float) -> Tensor:
        """Eigenvalues of the damped inverse, float64, (rank,)."""
        return damped_inverse(self.eigenvalues, damping, self.tolerance)


def damped_inverse(eigenvalues: Tensor, damping: float, tolerance: float) -> Tensor:
    """``1 / (s + λ)``; without damping, the pseudo-inverse at a relative tolerance.

    Examples
    --------
    >>> import torch
    >>> damped_inverse(torch.tensor([0.0, 2.0]), 0.0, 1e-12)
    tensor([0.0000, 0.5000])
    """
    if len(eigenvalues) == 0:
        return eigenvalues.clone()
    floor = tolerance * eigenvalues.abs().max() if damping == 0 else 0.0
    total = eigenvalues + damping
    return torch.where(total > floor, 1 / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)
