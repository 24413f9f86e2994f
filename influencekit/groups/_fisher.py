"""Group attribution with the empirical Fisher matrix of group gradients, in its k x k form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from influencekit._fitted import DampedFitted
from influencekit.attributors._gradients import query_gradients
from influencekit.damping import gram_damping
from influencekit.exceptions import ResourceError
from influencekit.gradients import Gradients
from influencekit.groups._group_path import GroupPath, group_path
from influencekit.utils import format_bytes

__all__ = ["GroupFisher", "group_gradients"]


def group_gradients(
    gradients: Gradients, groups: np.ndarray, n_groups: int, weights: Tensor
) -> Tensor:
    """Sums of weighted gradients over groups.

    Parameters
    ----------
    gradients : Gradients
        Of the training examples, one each.
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
            f"but max_memory is {format_bytes(engine.max_memory)}. Take fewer groups, "
            "curvature='points', which holds no such matrix, or raise max_memory."
        )
    order = np.argsort(groups, kind="stable")
    out = torch.zeros(n_groups, p, dtype=torch.float64, device=engine.task.device)
    owner, weights = groups[order], weights[torch.as_tensor(order, device=weights.device)]
    for rows, features in gradients.take(order):
        own, shares = owner[rows], weights[rows].to(features.dtype)
        edges = np.flatnonzero(np.diff(own, prepend=-1, append=-1))
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            some = slice(low, high)
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

    def __init__(self, engine, output, right, kernel, scale, damping):
        self.engine, self.output, self.right = engine, output, right
        self.rows = right * scale[:, None] if kernel is None else kernel
        self.scale = scale
        self.shared = kernel is None
        self.gram = self.rows @ self.rows.T
        self.eigenvalues = torch.linalg.eigvalsh(self.gram).clamp_min(0).cpu().numpy()
        self.damping = self._checked(damping)

    def at(self, damping: float | str) -> GroupFisher:
        """The same matrix with another damping, a number or "auto"."""
        return self._with(damping=self._checked(damping))

    def path(self, queries) -> GroupPath:
        """Scores at any damping."""
        gradients = query_gradients(self.engine, self.output, queries)
        pushed = gradients @ self.rows.T
        direct = pushed / self.scale if self.shared else gradients @ self.right.T
        return group_path(self.rows, self.right, self.gram, pushed, direct)

    def _checked(self, damping: float | str) -> float:
        value = gram_damping(self.gram) if damping == "auto" else float(damping)
        if not value > 0:
            raise ValueError(
                f"damping: got {damping!r}; accepted with curvature='groups' is a positive number "
                "or 'auto': the Fisher matrix of groups is singular."
            )
        return value

    def scores(self, queries):
        """Scores (n_queries, n_groups)."""
        gradients = query_gradients(self.engine, self.output, queries)
        pushed = gradients @ self.rows.T
        solved = torch.linalg.solve(self._damped(self.damping), pushed.T)
        if self.shared:
            return (-solved / self.scale[:, None]).T.cpu().numpy()
        direct = (gradients @ self.right.T).T
        return (-(direct - (self.right @ self.rows.T) @ solved) / self.damping).T.cpu().numpy()

    def _damped(self, damping: float) -> Tensor:
        return self.gram + damping * torch.eye(len(self.gram)).to(self.gram)
