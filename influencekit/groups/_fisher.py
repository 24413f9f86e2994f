"""Group attribution with the empirical Fisher matrix of group gradients, in its k x k form."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from influencekit._fitted import (
    DampedFitted,
    gradient_engine,
    learned_rows,
    query_gradients,
    training_gradients,
    training_weights,
)
from influencekit.attributors._trak import TRAK, NamedOutput, loss_slopes, trak_outputs
from influencekit.curvature._spectrum import CoordinatePath, SubsetSums
from influencekit.damping._default import gram_damping
from influencekit.data._examples import Examples
from influencekit.exceptions import ResourceError
from influencekit.gradients._cotangents import output_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.groups._explain import SlopeOutput
from influencekit.groups._groupers import RandomGrouper
from influencekit.models._task import Task
from influencekit.utils._long_work import format_bytes
from influencekit.utils.validation import present

__all__ = ["fisher_of"]


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

    def products(self, damping: float) -> Tensor:
        return super().products(damping) + self.outside / damping

    def subset_sums(self, masks: ArrayLike) -> SubsetSums:
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

    def at(self, damping: ArrayLike) -> np.ndarray:
        dampings = np.asarray(damping, dtype=np.float64)
        sums = np.stack([self.path.scores(float(d)) @ self.masks.T for d in np.ravel(dampings)])
        return sums.reshape(*dampings.shape, *sums.shape[1:])


def group_gradients(
    gradients: Gradients, groups: np.ndarray, n_groups: int, weights: Tensor
) -> Tensor:
    """Sums of weighted gradients over groups.

    Parameters
    ----------
    gradients : Gradients
        Gradients of the training examples, one for each.
    groups : ndarray of int of shape (n_train,)
    n_groups : int
    weights : Tensor of shape (n_train,)

    Returns
    -------
    Tensor of shape (n_groups, n_parameters), float64

    Raises
    ------
    ResourceError
        If they would take more than ``max_memory``.

    Notes
    -----
    Examples are read in the order of their groups, so that each batch holds few of them: one
    product of the layers' factors for each group, ``O(n p)`` in all.
    """
    engine, p = gradients.engine, gradients.engine.task.n_parameters
    needed = 8 * n_groups * p
    if needed > engine.max_memory:
        raise ResourceError(
            f"gradients of {n_groups:,} groups with {p:,} parameters need {format_bytes(needed)}, "
            f"but max_memory is {format_bytes(engine.max_memory)}. Use fewer groups, "
            f"curvature='points', which does not need this matrix, or raise max_memory."
        )
    order = np.argsort(groups, kind="stable")
    out = torch.zeros(n_groups, p, dtype=torch.float64, device=engine.task.device)
    owner, weights = groups[order], weights[torch.as_tensor(order, device=weights.device)]
    for rows, features in gradients.take(order):
        own, shares = owner[rows], weights[rows].to(features.dtype)
        edges = np.flatnonzero(np.diff(own, prepend=-1, append=-1))
        for low, high in pairwise(edges):
            some = slice(low, high)
            # Σ_{i in group} w_i g_i
            out[own[low]] += features[some].weighted_sums(shares[None, some])[0]
    return out


class GroupFisher(DampedFitted):
    """Scores ``-vᵀ (BᵀB + λI)⁻¹ R`` with group gradients in B and R.

    Parameters
    ----------
    engine : GradientEngine
    output : str or callable
        What is explained.
    right : Tensor of shape (n_groups, p)
        R: each group's share of the mean training gradient.
    kernel : Tensor of shape (n_groups, p) or None
        B; None where B is R with scaled rows.
    scale : Tensor of shape (n_groups,)
        Rows of B over rows of R, where there is no kernel of its own.
    damping : float or "auto"

    Attributes
    ----------
    damping : float

    Notes
    -----
    ``(BᵀB + λI)⁻¹ v = (v - Bᵀ (BBᵀ + λI)⁻¹ B v) / λ``, and ``(BᵀB + λI)⁻¹ Bᵀ = Bᵀ (BBᵀ + λI)⁻¹``: a
    system of the number of groups in place of p.
    """

    def __init__(
        self,
        engine: GradientEngine,
        output: Any,
        right: Tensor,
        kernel: Tensor | None,
        scale: Tensor,
        damping: float | str,
    ):
        self.engine, self.output, self.right = engine, output, right
        self.rows = right * scale[:, None] if kernel is None else kernel
        self.scale = scale
        self.shared = kernel is None
        # B Bᵀ
        self.gram = self.rows @ self.rows.T
        self.eigenvalues = torch.linalg.eigvalsh(self.gram).clamp_min(0).cpu().numpy()
        self.damping = self._checked(damping)

    def at(self, damping: float | str) -> GroupFisher:
        """The same matrix with another damping, a number or "auto"."""
        return self._with(damping=self._checked(damping))

    def path(self, queries: Examples) -> GroupPath:
        """Scores at any damping."""
        gradients = query_gradients(self.engine, self.output, queries)
        # G Bᵀ and G Rᵀ, (n_queries, n_groups)
        pushed = gradients @ self.rows.T
        direct = pushed / self.scale if self.shared else gradients @ self.right.T
        # B Bᵀ = U diag(s) Uᵀ, so that BᵀB has the eigenvectors V = Bᵀ U s^-½
        values, vectors = torch.linalg.eigh(self.gram)
        seen = values > _TOLERANCE * values.max()
        values, basis = values[seen], vectors[:, seen] / values[seen].sqrt()
        # R V and G V = (G Bᵀ) U s^-½
        groups, coordinates = self.right @ (self.rows.T @ basis), pushed @ basis
        spectrum: Any = GroupSpectrum(values, values, groups)
        # G (I - V Vᵀ) Rᵀ
        outside = direct - coordinates @ groups.T
        return GroupPath(spectrum, coordinates, self.gram.new_ones(len(self.gram)), outside)

    def _checked(self, damping: float | str) -> float:
        value = gram_damping(self.gram) if damping == "auto" else float(damping)
        if not value > 0:
            raise ValueError(
                f"damping: got {damping!r}; accepted with curvature='groups' is a positive number "
                "or 'auto': the Fisher matrix of groups is singular."
            )
        return value

    def scores(self, queries: Examples) -> np.ndarray:
        """Scores (n_queries, n_groups)."""
        gradients = query_gradients(self.engine, self.output, queries)
        pushed = gradients @ self.rows.T
        # (BBᵀ + λI)⁻¹ B Gᵀ, (n_groups, n_queries)
        solved = torch.linalg.solve(self._damped(self.damping), pushed.T)
        if self.shared:
            # -R (BᵀB + λI)⁻¹ Gᵀ = -diag(1 / scale) (BBᵀ + λI)⁻¹ B Gᵀ, as R = diag(1 / scale) B
            return (-solved / self.scale[:, None]).T.cpu().numpy()
        direct = (gradients @ self.right.T).T
        # -(R Gᵀ - R Bᵀ (BBᵀ + λI)⁻¹ B Gᵀ) / λ
        return (-(direct - (self.right @ self.rows.T) @ solved) / self.damping).T.cpu().numpy()

    def _damped(self, damping: float) -> Tensor:
        return self.gram + damping * torch.eye(len(self.gram)).to(self.gram)


def fisher_of(grouped: Any, task: Task, train: Examples) -> tuple[GroupFisher, np.ndarray]:
    """Group form of a group attributor's attributor.

    Parameters
    ----------
    grouped : GroupAttributor
        With its partition.
    task : Task
    train : Examples

    Returns
    -------
    fisher : GroupFisher
    rows : ndarray of int
        That the model learned from.

    Raises
    ------
    ValueError
        If the attributor's curvature is not an empirical Fisher matrix.
    """
    attributor = grouped.attributor_
    engine = gradient_engine(attributor, task)
    weights = torch.zeros(len(train), dtype=torch.float64, device=task.device)
    rows = learned_rows(task, train)
    learned = torch.as_tensor(rows, device=task.device)
    weights[learned] = training_weights(task, train)[learned]
    total = float(weights.sum())
    labels, k = grouped.labels_, grouped.n_groups_
    size = weights.new_zeros(k)
    size.index_add_(0, torch.as_tensor(labels, device=task.device), weights)
    form = grouped.fisher_form
    if form == "auto":
        form = "sum" if isinstance(grouped.grouper_, RandomGrouper) else "mean"
    each = total / (size.where(size > 0, 1.0) if form == "mean" else torch.ones_like(size))
    gradients, slopes = training_gradients(engine, train), torch.ones_like(weights)
    kernel, output = None, attributor.output
    if isinstance(attributor, TRAK):
        targets = present(train.targets, "training targets")
        output, linearized = trak_outputs(task, output, targets)
        if grouped.trak_kernel == "output":  # ∇loss_j is ∂loss_j/∂f ∇f_j in the linearized model
            function = NamedOutput(task, linearized)
            gradients = Gradients(engine, train, output_cotangent(function))
            slopes = loss_slopes(task, train, function)
            kernel = group_gradients(gradients, labels, k, weights)
            kernel = kernel * (each.sqrt() / total)[:, None]
    elif attributor.curvature != "fisher":
        raise ValueError(
            f"curvature='groups': got InfluenceFunction({attributor.curvature!r}); accepted is "
            "InfluenceFunction('fisher'), whose matrix is made of the gradients that are grouped."
        )
    right = group_gradients(gradients, labels, k, weights * slopes) / total
    output = output if grouped.property is None else SlopeOutput()
    return GroupFisher(engine, output, right, kernel, each.sqrt(), attributor.damping), rows
