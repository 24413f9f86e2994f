"""Group attribution with the empirical Fisher matrix of group gradients, in its k x k form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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
from influencekit._seeded_copies import seeded_copies
from influencekit.attributors._trak import TRAK, NamedOutput, loss_slopes, trak_outputs
from influencekit.curvature._spectrum import CoordinatePath, SubsetSums
from influencekit.damping._default import gram_damping
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.gradients._cotangents import output_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.projections._base import Projection
from influencekit.groups._explain import SlopeOutput
from influencekit.groups._group_gradients import group_gradients, products, projection_of
from influencekit.groups._groupers import RandomGrouper
from influencekit.models._task import Task, TaskList
from influencekit.utils.validation import present

__all__ = ["fishers_of"]


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
    rounding: float = 0.0  # those within it are left out

    @property
    def bounds(self) -> Tensor:
        """The eigenvalues, as in other spectra, where bounds can be cheaper."""
        return self.eigenvalues

    def inverse(self, damping: float) -> Tensor:
        """Eigenvalues of the damped inverse."""
        return 1 / (self.eigenvalues + damping)

    def train_products(self, coordinates: Tensor) -> Tensor:
        """``C Cᵀ`` of some coordinates (k, rank) with those of all groups."""
        return coordinates.to(self.train_coordinates.dtype) @ self.train_coordinates.mT


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


class GroupFisher(DampedFitted):
    """Scores ``-vᵀ (BᵀB + λI)⁻¹ R`` with group gradients in B and R.

    Parameters
    ----------
    engine : GradientEngine
    output : str or callable
        What is explained.
    right : Tensor of shape (n_groups, p), or (n_groups, projection.dim)
        R: each group's share of the mean training gradient.
    kernel : Tensor of the same shape or None
        B; None where B is R with scaled rows.
    scale : Tensor of shape (n_groups,)
        Rows of B over rows of R, where there is no kernel of its own.
    shares : Tensor of shape (n_groups,)
        Each group's share of the weights.
    damping : float or "auto"
    projection : Projection or None, default=None
        Projection of all gradients.

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
        shares: Tensor,
        damping: float | str,
        projection: Projection | None = None,
    ):
        self.engine, self.output, self.right = engine, output, right
        self.projection, self.shares = projection, shares
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
        pushed, direct = self._with_groups(queries)
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

    def _with_groups(self, queries: Examples) -> tuple[Tensor, Tensor]:
        """``G Bᵀ`` and ``G Rᵀ`` of the queries' gradients G, (n_queries, n_groups)."""
        gradients = query_gradients(self.engine, self.output, queries)
        if self.shared:
            pushed = products(gradients, self.rows.T, self.projection)
            return pushed, pushed / self.scale  # R = diag(1 / scale) B
        both = products(gradients, torch.cat([self.rows, self.right]).T, self.projection)
        pushed, direct = both.tensor_split(2, dim=1)
        return pushed, direct

    def scores(self, queries: Examples) -> np.ndarray:
        """Scores (n_queries, n_groups)."""
        return self._solved(*self._with_groups(queries))

    def scores_of_sums(self, parts: Sequence[Examples]) -> np.ndarray:
        """Scores summed over the queries of each part, (n_parts, n_groups), by one solve."""
        sums = []
        for queries in parts:
            gradients = query_gradients(self.engine, self.output, queries)
            ones = torch.ones(len(queries), dtype=torch.float64, device=self.gram.device)
            zeros = np.zeros(len(queries), dtype=int)
            sums.append(group_gradients(gradients, zeros, 1, ones, self.projection))
        # Σ_i ∇f_i of each part, (n_parts, p)
        total = torch.cat(sums)
        return self._solved(total @ self.rows.T, total @ self.right.T)

    def self_scores(self) -> np.ndarray:
        """Effect (n_groups,) of each group on the mean loss of its own rows, by their weights."""
        pushed, direct = self.right @ self.rows.T, self.right @ self.right.T
        own = -np.diagonal(self._solved(pushed, direct))
        shares = self.shares.cpu().numpy()
        # W/ω_j <R_j, (BᵀB + λI)⁻¹ R_j>
        return own / np.where(shares > 0, shares, 1.0)

    def _solved(self, pushed: Tensor, direct: Tensor) -> np.ndarray:
        """``-G (BᵀB + λI)⁻¹ Rᵀ`` from ``G Bᵀ`` and ``G Rᵀ``."""
        # (BBᵀ + λI)⁻¹ B Gᵀ, (n_groups, n_queries)
        solved = torch.linalg.solve(self._damped(self.damping), pushed.T)
        if self.shared:
            # -R (BᵀB + λI)⁻¹ Gᵀ = -diag(1 / scale) (BBᵀ + λI)⁻¹ B Gᵀ, as R = diag(1 / scale) B
            return (-solved / self.scale[:, None]).T.cpu().numpy()
        # -(R Gᵀ - R Bᵀ (BBᵀ + λI)⁻¹ B Gᵀ) / λ
        found = direct.T - (self.right @ self.rows.T) @ solved
        return (-found / self.damping).T.cpu().numpy()

    def _damped(self, damping: float) -> Tensor:
        return self.gram + damping * torch.eye(len(self.gram)).to(self.gram)


def fishers_of(
    grouped: Any, models: Task | TaskList, train: Examples | ExamplesList
) -> tuple[Sequence[GroupFisher], Sequence[np.ndarray]]:
    """Group form of a group attributor's attributor, one for each model.

    Parameters
    ----------
    grouped : GroupAttributor
        With its partition.
    models : Task or TaskList
    train : Examples or ExamplesList

    Returns
    -------
    fishers : sequence of GroupFisher
    rows : sequence of ndarray of int
        That each model learned from.

    Raises
    ------
    ValueError
        If the attributor's curvature is not an empirical Fisher matrix.
    """
    attributor = grouped.attributor_
    single = isinstance(models, Task)
    copies = [attributor] if single else seeded_copies(attributor, len(each(models)))
    found = map(partial(_fisher_of, grouped), copies, each(models), each(train))
    fishers, rows = zip(*found, strict=True)
    return fishers, rows


def _fisher_of(
    grouped: Any, attributor: Any, task: Task, train: Examples
) -> tuple[GroupFisher, np.ndarray]:
    engine = gradient_engine(attributor, task)
    projection = projection_of(attributor, engine)
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
    per_group = total / (size.where(size > 0, 1.0) if form == "mean" else torch.ones_like(size))
    gradients, slopes = training_gradients(engine, train), torch.ones_like(weights)
    kernel, output = None, attributor.output
    if isinstance(attributor, TRAK):
        targets = present(train.targets, "training targets")
        output, linearized = trak_outputs(task, output, targets)
        if grouped.trak_kernel == "output":  # ∇loss_j is ∂loss_j/∂f ∇f_j in the linearized model
            function = NamedOutput(task, linearized)
            gradients = Gradients(engine, train, output_cotangent(function))
            slopes = loss_slopes(task, train, function)
            kernel = group_gradients(gradients, labels, k, weights, projection)
            kernel = kernel * (per_group.sqrt() / total)[:, None]
    elif attributor.curvature != "fisher":
        raise ValueError(
            f"curvature='groups': got InfluenceFunction({attributor.curvature!r}); accepted is "
            "InfluenceFunction('fisher'), whose matrix is made of the gradients that are grouped."
        )
    right = group_gradients(gradients, labels, k, weights * slopes, projection) / total
    output = output if grouped.property is None else SlopeOutput()
    fitted = GroupFisher(
        engine,
        output,
        right,
        kernel,
        per_group.sqrt(),
        size / total,
        attributor.damping,
        projection,
    )
    return fitted, rows
