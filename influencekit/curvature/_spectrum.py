"""Curvatures with eigenvalues: one decomposition gives the scores at every damping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._problem import CurvatureProblem
from influencekit.gradients._gradients import Gradients
from influencekit.utils._long_work import chunks

__all__ = [
    "CoordinatePath",
    "CoordinateSpectrum",
    "DampingPath",
    "Spectrum",
    "SubsetSums",
    "check_masks",
    "damped_inverse",
    "grad_dot_cosines",
    "positive_inverse",
    "row_cosines",
    "sample_rows",
]

#: Number of training examples whose scores are used to choose a damping.
SAMPLE = 2_000
#: Smallest matrix order assumed when rounding errors are estimated.
SMALLEST_ORDER = 100
#: λ in units of the largest eigenvalue at which scores count as inner products.
FAR = 1e6
#: Largest number of entries that are handled at once: damped queries, coordinates in float64.
_CHUNK = 2**19


class SubsetSums(ABC):
    """Sums of scores over subsets of the training examples, at any damping."""

    @abstractmethod
    def at(self, damping: ArrayLike) -> np.ndarray:
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

    Everything here is a function of the damping λ and costs elementwise operations or one matrix
    product; gradients and the eigendecomposition are already computed.

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
    def xi(self, dampings: ArrayLike) -> np.ndarray:
        """Surrogate indicator of every query at every damping, (n_dampings, n_query).

        ``ξ = t_2 / √(t_1 t_3)`` with ``t_k = Σ_j d_j c_j² / (s_j + λ)^k``, where ``d`` are the
        data's shares of the eigenvalues ``s``; λ is added to the penalty contained in ``s``. NaN if
        a query has no gradient inside the curvature's range.
        """

    @abstractmethod
    def subset_sums(self, masks: ArrayLike) -> SubsetSums:
        """Transform subsets ``masks`` (n_subsets, n_train) to the eigenbasis, for all dampings."""

    def scores(self, damping: float) -> np.ndarray:
        """Scores ``-<∇f_i, (A + λI)⁻¹ ∇loss_j> w_j / W``, shape (n_query, n_train)."""
        products = self.products(damping)
        return products.mul_(-self.train_weights.to(products)).cpu().double().numpy()


def check_masks(masks: ArrayLike, n_train: int) -> np.ndarray:
    """Masks as floats, or an error that says which columns they need."""
    masks = np.asarray(masks, dtype=np.float64)
    if masks.ndim != 2 or masks.shape[1] != n_train:
        raise ValueError(
            f"masks: got shape {masks.shape}; accepted is (n_subsets, {n_train}), a column "
            "for each training row that the model learned from: masks[:, train_rows_]."
        )
    return masks


def grad_dot_cosines(path: DampingPath) -> Callable[..., np.ndarray]:
    """Cosine of every query's scores with those at infinite damping, as a function of dampings.

    The scores at infinite damping are computed here, once.

    Parameters
    ----------
    path : DampingPath

    Returns
    -------
    callable
        Function from dampings to cosines, (n_dampings, n_query).
    """
    reference = path.scores(FAR * _largest(path))

    def cosines(dampings: ArrayLike) -> np.ndarray:
        found = [row_cosines(path.scores(float(d)), reference) for d in np.atleast_1d(dampings)]
        return np.stack(found)

    return cosines


def row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of a with the same row of b; NaN if one of the two is zero."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.einsum("ij,ij->i", a, b)
    return np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1.0), np.nan)


def _largest(path: Any) -> float:
    """Largest eigenvalue of a path's curvature, or of the curvatures of several models."""
    if hasattr(path, "paths"):
        return max(_largest(one) for one in path.paths)
    return float(path.spectrum.bounds.max())


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
    #: Number of training examples that a damping is chosen on; None is 2,000.
    most_rows: int | None = None
    #: Number of these whose scores are computed.
    n_queries: int = 100

    @abstractmethod
    def path(self, queries: Gradients) -> DampingPath:
        """Scores, surrogate indicator and subset sums of queries at any damping."""

    @abstractmethod
    def train_path(self, rows: Tensor) -> DampingPath:
        """The same path with some training examples as queries and their loss as output."""

    def restrict(self, columns: Tensor) -> Spectrum:  # noqa: ARG002  subclasses use it
        """The same curvature, with scores only for training examples ``columns`` (n_columns,)."""
        return self

    @property
    def bounds(self) -> Tensor:
        """Numbers of which the largest is not below the largest eigenvalue."""
        return self.eigenvalues.flatten()

    @property
    def unordered(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues and the data's shares of them, in any order."""
        return self.eigenvalues.flatten(), self.data_eigenvalues.flatten()

    @property
    def rounding(self) -> float:
        """Size up to which an eigenvalue may be rounding of the largest one."""
        size = max(SMALLEST_ORDER, self.eigenvalues.numel())
        return size * torch.finfo(torch.float64).eps * float(self.eigenvalues.max())

    @property
    def least_damping(self) -> float:
        """Smallest λ above 0 that exceeds the rounding of the eigenvalues; 0 if any λ works."""
        if self.tolerance == 0 or self.eigenvalues.numel() == 0:
            return 0.0
        return self.rounding if float(self.eigenvalues.min()) < self.rounding else 0.0

    def row_sizes(self) -> Tensor:
        """Squared norms of the training gradients, (n,), saved by the first pass over them."""
        train = self.problem.train
        return train.squared_norms(train.engine.task.dtype).cpu()

    def products(self, queries: Gradients, damping: float) -> Tensor:
        return self.path(queries).products(damping)

    def inverse(self, damping: float) -> Tensor:
        """Eigenvalues of the damped inverse, float64, shaped as ``eigenvalues``."""
        return damped_inverse(self.eigenvalues, damping, self.tolerance)


def sample_rows(sizes: Tensor, most: int | None = None) -> Tensor:
    """Up to ``most`` rows, evenly spaced in the order of their size.

    Parameters
    ----------
    sizes : Tensor of shape (n,)
        Squared norms of the rows' gradients.
    most : int or None
        Largest number of rows; None is 2,000, the most that a damping is chosen on.

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
    picked = torch.linspace(0, n - 1, SAMPLE if most is None else min(SAMPLE, most)).long().unique()
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


# -- coordinates kept as dense rows ----------------------------------------------------------


@dataclass(repr=False)  # in one line, as all curvatures
class CoordinateSpectrum(Spectrum):
    """Spectrum of low rank, with coordinates of gradients kept as dense rows.

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

    def path(self, queries: Gradients) -> DampingPath:
        coordinates = self.coordinates(queries).to(torch.float64)
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def train_path(self, rows: Tensor) -> DampingPath:
        coordinates = self.train_coordinates[rows].to(torch.float64)
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def train_products(self, coordinates: Tensor) -> Tensor:
        """``C Cᵀ`` of some coordinates (k, rank) with those of all training examples."""
        return coordinates.to(self.train_coordinates.dtype) @ self.train_coordinates.mT

    def train_sums(self, weights: Tensor) -> Tensor:
        """Weighted sums of the training examples' coordinates: (g, n_train) -> (g, rank)."""
        return weights.to(self.train_coordinates.dtype) @ self.train_coordinates

    def row_sizes(self) -> Tensor:
        return torch.cat([c.square().sum(1).cpu() for c in self._parts()])

    def _parts(self) -> Iterator[Tensor]:
        """Coordinates of up to 4,096 examples after the other, float64."""
        size = max(1, min(4096, _CHUNK // max(1, len(self.eigenvalues))))
        return (c.to(torch.float64) for c in self.train_coordinates.split(size))

    def restrict(self, columns: Tensor) -> Spectrum:
        own = self.train_coordinates[columns]
        return replace(self, train_coordinates=own, problem=self.problem.take(columns))

    def self_products(self, damping: float) -> Tensor:
        # c_jᵀ diag(1 / (s + λ)) c_j
        return torch.cat([c.square() @ self.inverse(damping) for c in self._parts()])


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

    def products(self, damping: float) -> Tensor:
        # C_f diag(1 / (s + λ)) Cᵀ, (n_query, n_train)
        return self.spectrum.train_products(self.query_coordinates * self.spectrum.inverse(damping))

    def xi(self, dampings: ArrayLike) -> np.ndarray:
        # a direction without curvature counts with 0, not with its rounding
        data = (self.spectrum.data_eigenvalues - self.spectrum.rounding).clamp_min(0.0)
        weights = self.query_coordinates.square() * data
        inverses = torch.stack([self.spectrum.inverse(float(d)) for d in np.atleast_1d(dampings)])
        # a common factor of the inverses does not change ξ and keeps their cubes in range
        inverses = inverses / inverses.amax(1, keepdim=True)
        # t_k = Σ_j d_j c_j² / (s_j + λ)^k
        t1, t2, t3 = (inverses.pow(k) @ weights.mT for k in (1, 2, 3))
        return (t2 / torch.sqrt(t1 * t3)).cpu().numpy()

    def subset_sums(self, masks: ArrayLike) -> SubsetSums:
        weights = self.train_weights
        masks = torch.as_tensor(check_masks(masks, len(weights)), device=weights.device)
        return CoordinateSums(self, self.spectrum.train_sums(masks * weights).to(torch.float64))


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

    def at(self, damping: ArrayLike) -> np.ndarray:
        dampings = np.asarray(damping, dtype=np.float64)
        dtype = self.path.spectrum.train_coordinates.dtype
        left, right = self.path.query_coordinates.to(dtype), -self.coordinates.mT.to(dtype)
        sums = np.empty((dampings.size, left.shape[0], right.shape[1]))
        for at in chunks(dampings.size, left.numel(), _CHUNK):
            some = dampings.reshape(-1)[at]
            inverses = torch.stack([self.path.spectrum.inverse(float(d)) for d in some])
            # -C_f diag(1 / (s + λ)) Sᵀ at each λ, with S the sums over subsets
            rows = (left * inverses.to(dtype)[:, None]).flatten(0, 1)
            sums[at] = (rows @ right).unflatten(0, (len(some), -1)).cpu().numpy()
        return sums.reshape(*dampings.shape, *sums.shape[1:])
