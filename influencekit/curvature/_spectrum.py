"""Factorised curvatures with eigenvalues: every damping after one decomposition."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._path import DampingPath
from influencekit.gradients import Gradients

__all__ = ["Spectrum", "damped_inverse", "positive_inverse", "sample_rows"]

#: Training examples on whose scores a damping is chosen.
SAMPLE = 2_000
#: Order of the matrix, at least, whose rounding is reckoned with.
SMALLEST_ORDER = 100


class Spectrum(FittedCurvature):
    """Eigendecomposition ``A = V diag(s) Vᵀ`` of a curvature ``A = F + R`` without damping.

    With coordinates ``c = Vᵀg`` of gradients, ``<g, (A + λI)⁻¹ h> = Σ_k c_k d_k / (s_k + λ)``
    for every λ from the one decomposition.  V is orthonormal, and the training gradients, or the
    projected ones, lie in its span.

    Attributes
    ----------
    eigenvalues : Tensor of shape (rank,), float64
        ``s``, ascending unless said otherwise.
    data_eigenvalues : Tensor of shape (rank,), float64
        ``v_kᵀ F v_k``: the data's share of each eigenvalue.
    tolerance : float
        Eigenvalues up to ``tolerance * max`` count as zero when the damping is 0.
    """

    eigenvalues: Tensor
    data_eigenvalues: Tensor
    tolerance: float

    @abstractmethod
    def path(self, queries: Gradients) -> DampingPath:
        """Scores, surrogate indicator and subset sums of queries at any damping."""

    @abstractmethod
    def train_path(self, rows: Tensor) -> DampingPath:
        """The same path with some training examples as queries and their loss as output."""

    def narrowed(self, columns: Tensor) -> Spectrum:
        """The same curvature with scores for some of the training examples only.

        Parameters
        ----------
        columns : Tensor of shape (n_columns,), int64

        Returns
        -------
        Spectrum
        """
        return self

    @property
    def least_damping(self) -> float:
        """Least λ above 0 that rounding of the eigenvalues can carry; 0 where any will do."""
        if self.tolerance == 0 or self.eigenvalues.numel() == 0:
            return 0.0
        size = max(SMALLEST_ORDER, self.eigenvalues.numel())
        floor = size * torch.finfo(torch.float64).eps * float(self.eigenvalues.max())
        return floor if float(self.eigenvalues.min()) < floor else 0.0

    def row_sizes(self) -> Tensor:
        """Squared norms of the training gradients, (n,), as the first pass over them noted."""
        train = self.problem.train
        return train.squared_norms(train.engine.task.dtype).cpu()

    def products(self, queries, damping):
        return self.path(queries).products(damping)

    def inverse(self, damping: float) -> Tensor:
        """Eigenvalues of the damped inverse, float64, shaped as ``eigenvalues``."""
        return damped_inverse(self.eigenvalues, damping, self.tolerance)


def sample_rows(sizes: Tensor, most: int | None = None) -> Tensor:
    """Up to ``most`` rows, evenly among those sorted by size, whatever order they stand in.

    Parameters
    ----------
    sizes : Tensor of shape (n,)
        Squared norms of the rows' gradients.
    most : int or None
        None is the 2,000 that a damping is chosen on.

    Returns
    -------
    Tensor of int64
        Positions, ascending.

    Examples
    --------
    >>> import torch
    >>> sample_rows(torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0]), 3)
    tensor([0, 1, 4])
    """
    n = len(sizes)
    picked = torch.linspace(0, n - 1, SAMPLE if most is None else most).long().unique()
    order = torch.argsort(sizes.cpu(), stable=True)
    return order[picked].sort().values


def damped_inverse(eigenvalues: Tensor, damping: float, tolerance: float) -> Tensor:
    """``1 / (s + λ)``; without damping, the pseudo-inverse at a relative tolerance.

    Examples
    --------
    >>> import torch
    >>> damped_inverse(torch.tensor([0.0, 2.0]), 0.0, 1e-12)
    tensor([0.0000, 0.5000])
    """
    if eigenvalues.numel() == 0:
        return eigenvalues.clone()
    floor = tolerance * eigenvalues.abs().max() if damping == 0 else 0.0
    total = eigenvalues + damping
    return torch.where(total > floor, 1 / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)


def positive_inverse(eigenvalues: Tensor, damping: float, tolerance: float) -> Tensor:
    """``1 / (s + λ)``, and 0 in directions of negative curvature.

    Examples
    --------
    >>> import torch
    >>> positive_inverse(torch.tensor([-1.0, 0.0, 3.0]), 1.0, 1e-12)
    tensor([0.0000, 1.0000, 0.2500])
    """
    if eigenvalues.numel() == 0:
        return eigenvalues.clone()
    negative = eigenvalues < -tolerance * eigenvalues.abs().max()
    inverse = damped_inverse(eigenvalues.clamp_min(0.0), damping, tolerance)
    return torch.where(negative, 0.0, inverse)
