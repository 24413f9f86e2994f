"""One factorization of a linear model's Hessian, from which every removal follows.

With ``H = Σ_i w_i (S_i ⊗ x_i x_iᵀ) + R`` and ``Wᵀ H W = I``, the rows are ``P_i = (I ⊗ x_iᵀ) W``,
(k, q), their curvature rows ``U_i = √w_i L_iᵀ P_i`` and their pulls ``p_i = w_i P_iᵀ g_i``. A
removal of the rows G moves the coefficients by ``W v`` with

    first     v = Σ_G p_i
    leverage  v = Σ_G (I - U_iᵀ U_i)⁻¹ p_i
    newton    v = (I - Σ_G U_iᵀ U_i)⁻¹ Σ_G p_i ,

which is one Newton step of the objective without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from influencekit.models.losses._binary import MarginLoss
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import SquaredError
from influencekit.removal._linear_fit import LinearFit
from influencekit.utils._long_work import chunks

__all__ = ["ALONE", "REMOVAL_ORDERS", "Whitened", "decomposed", "whitened"]

#: How the change of a model without some rows is computed.
REMOVAL_ORDERS = ("first", "leverage", "newton")
#: Share of a direction's curvature below which it counts as determined by the removed rows alone.
UNDETERMINED = 1e-10
#: Leverage above which a row alone determines a direction.
ALONE = 1 - 1e-8
#: Numbers of the arrays that are made for several rows at once.
_BLOCK = 2**24


@dataclass
class Whitened:
    """A linear model with its decomposed Hessian.

    Attributes
    ----------
    fit : LinearFit
    basis : ndarray of shape (k·d, q)
        ``W``; directions without curvature are left out.
    """

    fit: LinearFit
    basis: np.ndarray

    def undetermined(self) -> np.ndarray:
        """Which coefficients on raw features (k·d,) some direction without curvature moves."""
        fit, matrix = self.fit, self.fit.hessian(self.factors, self.fit.weights)
        if self.basis.shape[1] == len(matrix) or isinstance(fit.task.loss, CrossEntropy):
            return np.zeros(len(matrix), dtype=bool)
        moved = np.abs(_raw_columns(fit, without_curvature(matrix)))
        return (moved > 1e-6 * moved.max(axis=0)).any(axis=1)

    def rows(self, X: np.ndarray) -> np.ndarray:
        """``P`` (m, k, q) of rows like those of ``fit.X``."""
        k, d = self.fit.theta.shape
        return np.stack([X @ block for block in self.basis.reshape(k, d, -1)], axis=1)

    @cached_property
    def factors(self) -> np.ndarray:
        """``L`` (n, k, r) at the model's own outputs."""
        return self.fit.factors(self.fit.outputs)

    @cached_property
    def slopes(self) -> np.ndarray:
        """``g`` (n, k) at the model's own outputs."""
        return self.fit.slopes(self.fit.outputs)

    @cached_property
    def leverages(self) -> np.ndarray:
        """Largest eigenvalue of each row's leverage block ``w L P Pᵀ Lᵀ``, (n,)."""
        found = []
        for some, P in self.blocks():
            blocks = self._curved(some, P)
            found.append(np.linalg.eigvalsh(blocks @ blocks.transpose(0, 2, 1))[:, -1])
        return np.concatenate(found)

    def steps(self, order: str) -> np.ndarray:
        """``v`` (n, q) of each row removed by itself."""
        return np.concatenate([self._row_steps(order, some, P) for some, P in self.blocks()])

    def group_steps(self, order: str, labels: np.ndarray, n_groups: int) -> np.ndarray:
        """``v`` (n_groups, q) of each group removed as a whole; rows labeled below 0 stay."""
        if order != "newton":
            sums = np.zeros((n_groups, self.basis.shape[1]))
            inside = labels >= 0
            np.add.at(sums, labels[inside], self.steps(order)[inside])
            return sums
        return np.stack([self.step(np.flatnonzero(labels == g)) for g in range(n_groups)])

    def step(self, rows: np.ndarray) -> np.ndarray:
        """``v`` (q,) of one Newton step without some rows, by the smaller of two systems."""
        P = self.rows(self.fit.X[rows])
        pull = np.einsum("i,ikq,ik->q", self.fit.weights[rows], P, self.slopes[rows])
        return solve_without(self._curved(rows, P).reshape(-1, P.shape[2]), pull)

    def _row_steps(self, order: str, rows: slice, P: np.ndarray) -> np.ndarray:
        p = np.einsum("ikq,ik->iq", P, self.fit.weights[rows, None] * self.slopes[rows])
        if order == "first":
            return p
        U = self._curved(rows, P)
        # (I - UᵀU)⁻¹ p = p + Uᵀ (I - UUᵀ)⁻¹ U p
        inner = np.eye(U.shape[1]) - U @ U.transpose(0, 2, 1)
        moved = _solved(inner, np.einsum("irq,iq->ir", U, p), -1.0)
        return p + np.einsum("irq,ir->iq", U, moved)

    def _curved(self, rows: slice | np.ndarray, P: np.ndarray) -> np.ndarray:
        """Curvature rows ``U_i = √w_i L_iᵀ P_i``, (m, r, q)."""
        roots = np.sqrt(self.fit.weights[rows])[:, None, None]
        return roots * (self.factors[rows].transpose(0, 2, 1) @ P)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """``P`` of some rows after the other."""
        k, q = len(self.fit.theta), self.basis.shape[1]
        for some in chunks(len(self.fit.X), k * q, _BLOCK):
            yield some, self.rows(self.fit.X[some])


def solve_without(U: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """``(I - UᵀU)⁻¹ p``, in the smaller of the two spaces.

    Directions that only the removed rows determine do not move.

    Parameters
    ----------
    U : ndarray of shape (r, q)
    pull : ndarray of shape (q,)

    Returns
    -------
    ndarray of shape (q,)
    """
    if len(U) < U.shape[1]:
        # (I - UᵀU)⁻¹ p = p + Uᵀ (I - UUᵀ)⁻¹ U p
        inner = np.eye(len(U)) - U @ U.T
        return pull + U.T @ _solved(inner[None], (U @ pull)[None], -1.0)[0]
    return _solved((np.eye(U.shape[1]) - U.T @ U)[None], pull[None], 0.0)[0]


def _solved(matrices: np.ndarray, vectors: np.ndarray, undetermined: float) -> np.ndarray:
    """Solutions (m, r) of symmetric systems whose eigenvalues are between 0 and 1.

    Along directions whose eigenvalue is 0, ``undetermined`` times the vector is returned.
    """
    values, axes = matrices[:, 0], None
    if matrices.shape[1] > 1:
        values, axes = np.linalg.eigh(matrices)
        vectors = np.einsum("mrs,mr->ms", axes, vectors)
    kept = values > UNDETERMINED
    found = np.where(kept, 1 / np.where(kept, values, 1.0), undetermined) * vectors
    return found if axes is None else np.einsum("mrs,ms->mr", axes, found)


def whitened(fit: LinearFit, damping: float = 0.0) -> Whitened:
    """Decompose the Hessian of a linear model.

    Parameters
    ----------
    fit : LinearFit
    damping : float, default=0.0
        λ, for the mean loss and the model's own coefficients.

    Returns
    -------
    Whitened
    """
    matrix = fit.hessian(fit.factors(fit.outputs), fit.weights, damping)
    return decomposed(fit, matrix)


def decomposed(fit: LinearFit, matrix: np.ndarray) -> Whitened:
    """A linear model with a Hessian that is known already.

    Parameters
    ----------
    fit : LinearFit
    matrix : ndarray of shape (k·d, k·d)

    Returns
    -------
    Whitened
    """
    basis = _centered(fit, whitening(matrix))
    if basis.shape[1] < len(basis) and not isinstance(fit.task.loss, CrossEntropy):
        basis = _smallest(fit, basis, without_curvature(matrix))
    return Whitened(fit, basis)


def _centered(fit: LinearFit, basis: np.ndarray) -> np.ndarray:
    """``W`` without a part that all classes share in coefficients without a penalty.

    A softmax does not see that part, and solvers leave it at 0.
    """
    if not isinstance(fit.task.loss, CrossEntropy):
        return basis
    k, d = fit.theta.shape
    free = ~fit.penalty.any(axis=(0, 1))
    by_class = basis.reshape(k, d, -1).copy()
    by_class[:, free] -= by_class[:, free].mean(axis=0)
    return by_class.reshape(basis.shape)


def _smallest(fit: LinearFit, basis: np.ndarray, free: np.ndarray) -> np.ndarray:
    """``W`` without a part along directions that no row determines.

    The solvers of least squares take the smallest coefficients, with the intercept left out; those
    that begin at 0 and follow gradients take the smallest of all, with the intercept.
    """
    if isinstance(fit.task.loss, (SquaredError, MarginLoss)):
        axes = np.linalg.qr(free)[0]
        return basis - axes @ (axes.T @ basis)
    axes, raw = (_raw_columns(fit, columns) for columns in (free, basis))
    axes = np.linalg.qr(axes)[0]
    raw -= axes @ (axes.T @ raw)
    if not fit.intercept:
        return raw
    # b' = b + W μ
    by_output = raw.reshape(*fit.theta.shape, -1)
    by_output[:, -1] += np.einsum("kdq,d->kq", by_output[:, :-1], fit.means)
    return raw


def _raw_columns(fit: LinearFit, columns: np.ndarray) -> np.ndarray:
    """Columns (k·d, q) of coefficients for features that are not centered."""
    k, d = fit.theta.shape
    moved = fit.raw(columns.T.reshape(-1, k, d))
    return np.array(moved.reshape(-1, k * d).T)


def whitening(matrix: np.ndarray) -> np.ndarray:
    """``W`` with ``Wᵀ H W = I`` on the directions in which H is not 0, (p, q)."""
    scale, values, vectors, kept = _scaled_axes(matrix)
    # W = S Q D^-½
    return scale[:, None] * (vectors[:, kept] / np.sqrt(values[kept]))


def without_curvature(matrix: np.ndarray) -> np.ndarray:
    """Directions (p, p - q) that :func:`whitening` leaves out."""
    scale, _, vectors, kept = _scaled_axes(matrix)
    # S v, and the axes of columns that are 0
    return np.where(scale > 0, scale, 1.0)[:, None] * vectors[:, ~kept]


def _scaled_axes(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    """``S``, ``D`` and ``Q`` of ``S H S = Q D Qᵀ``, and where D is not 0."""
    diagonal = np.diagonal(matrix)
    scale = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    values, vectors = linalg.eigh(scale[:, None] * matrix * scale)
    return scale, values, vectors, values > len(values) * np.finfo(float).eps * values[-1]
