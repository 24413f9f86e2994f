"""Group attribution with the empirical Fisher matrix of group gradients, in its k x k form."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from influencekit.curvature._damping import COSINE_OF_BEST_DAMPING, DAMPING_RANGE
from influencekit.data import Examples
from influencekit.exceptions import ResourceError
from influencekit.gradients import CotangentFunction, GradientEngine
from influencekit.groups._group_path import GroupPath, group_path
from influencekit.utils import format_bytes

__all__ = ["GroupFisher", "group_gradients"]


def group_gradients(
    engine: GradientEngine,
    train: Examples,
    cotangent: CotangentFunction,
    groups: np.ndarray,
    n_groups: int,
    weights: Tensor,
) -> Tensor:
    """Sums of weighted gradients over groups.

    Parameters
    ----------
    engine : GradientEngine
    train : Examples
    cotangent : callable
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
    p = engine.task.n_parameters
    needed = 8 * n_groups * p
    if needed > engine.max_memory:
        raise ResourceError(
            f"gradients of {n_groups:,} groups with {p:,} parameters need {format_bytes(needed)}, "
            f"but max_memory is {format_bytes(engine.max_memory)}. Take fewer groups, "
            "curvature='points', which holds no such matrix, or raise max_memory."
        )
    order = np.argsort(groups, kind="stable")
    out = torch.zeros(n_groups, p, dtype=torch.float64, device=engine.task.device)
    owner, weights = groups[order], weights[torch.as_tensor(order, device=weights.device)]
    start = 0
    for features in engine.batches(train.take(order), cotangent):
        own = owner[start : start + len(features)]
        edges = np.flatnonzero(np.diff(own, prepend=-1, append=-1))
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            part = weights[start + low : start + high].to(features.dtype)
            out[own[low]] += features[slice(low, high)].weighted_sums(part[None])[0]
        start += len(features)
    return out


class GroupFisher:
    """Scores ``-vᵀ (BᵀB + λI)⁻¹ R`` with group gradients in B and R.

    Parameters
    ----------
    engine : GradientEngine
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

    def __init__(self, engine, right, kernel, scale, damping):
        self.engine, self.right = engine, right
        self.rows = right * scale[:, None] if kernel is None else kernel
        self.scale = scale
        self.shared = kernel is None
        self.gram = self.rows @ self.rows.T
        self.damping = self._checked(damping)

    def at(self, damping: float | str) -> GroupFisher:
        """The same matrix with another damping."""
        changed = copy.copy(self)
        changed.damping = self._checked(damping)
        return changed

    def eigenvalues(self) -> np.ndarray:
        """Of ``BᵀB``, those that are not zero for sure: as many as groups."""
        return torch.linalg.eigvalsh(self.gram).clamp_min(0).cpu().numpy()

    def path(self, queries: Examples, cotangent: CotangentFunction) -> GroupPath:
        """Scores at any damping."""
        pushed = self.engine.matmul(queries, cotangent, self.rows.T)
        direct = pushed / self.scale
        if not self.shared:
            direct = self.engine.matmul(queries, cotangent, self.right.T)
        return group_path(self.rows, self.right, self.gram, pushed, direct)

    def _checked(self, damping: float | str) -> float:
        value = self._auto() if damping == "auto" else float(damping)
        if not value > 0:
            raise ValueError(
                f"damping: got {damping!r}; accepted with curvature='groups' is a positive number "
                "or 'auto': the Fisher matrix of groups is singular."
            )
        return value

    def scores(self, queries: Examples, cotangent: CotangentFunction) -> np.ndarray:
        """Scores (n_queries, n_groups)."""
        pushed = self.engine.matmul(queries, cotangent, self.rows.T)
        solved = torch.linalg.solve(self._damped(self.damping), pushed.T)
        if self.shared:
            return (-solved / self.scale[:, None]).T.cpu().numpy()
        direct = self.engine.matmul(queries, cotangent, self.right.T).T
        return (-(direct - (self.right @ self.rows.T) @ solved) / self.damping).T.cpu().numpy()

    def _damped(self, damping: float) -> Tensor:
        return self.gram + damping * torch.eye(len(self.gram)).to(self.gram)

    def _auto(self) -> float:
        """Damping whose cosine with Grad-Dot, of groups among themselves, is that of points."""
        values, vectors = torch.linalg.eigh(self.gram)
        values = values.clamp_min(0)
        reference = self.gram / self.gram.norm(dim=1, keepdim=True).clamp_min(1e-300)

        def gap(log_damping: float) -> float:
            shrunk = (vectors * (values / (values + np.exp(log_damping)))) @ vectors.T
            cosine = (shrunk * reference).sum(1) / shrunk.norm(dim=1).clamp_min(1e-300)
            return float(cosine.mean()) - COSINE_OF_BEST_DAMPING

        low, high = (np.log(end * float(values.max())) for end in DAMPING_RANGE)
        if gap(low) >= 0:
            return float(np.exp(low))
        return float(np.exp(high if gap(high) <= 0 else brentq(gap, low, high, xtol=1e-3)))
