"""Sums of gradients over groups of examples, projected where the attributor projects."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.exceptions import ResourceError
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.projections._base import DenseProjection, Projection
from influencekit.gradients.projections._make_projection import make_projection
from influencekit.utils._long_work import chunks, format_bytes

__all__ = ["group_gradients", "products", "projection_of"]


def projection_of(attributor: Any, engine: Any) -> Projection | None:
    """The random projection that an attributor asks for; None where nothing is projected.

    Parameters
    ----------
    attributor : attributor
        With ``projection_dim``, ``projection`` and ``random_state``.
    engine : GradientEngine

    Returns
    -------
    Projection or None
    """
    dim = attributor.projection_dim
    if dim is None or dim >= engine.task.n_parameters:
        return None
    kind, seed = attributor.projection, attributor.random_state
    return make_projection(engine, dim, projection=kind, random_state=seed)


def group_gradients(
    gradients: Gradients,
    groups: np.ndarray,
    n_groups: int,
    weights: Tensor,
    projection: Projection | None = None,
) -> Tensor:
    """Sums of weighted gradients over groups.

    Parameters
    ----------
    gradients : Gradients
        Of some examples, one each.
    groups : ndarray of int of shape (n_examples,)
    n_groups : int
    weights : Tensor of shape (n_examples,)
    projection : Projection or None, default=None

    Returns
    -------
    Tensor of shape (n_groups, n_parameters), or (n_groups, projection.dim), float64

    Raises
    ------
    ResourceError
        If they would take more than ``max_memory``.

    Notes
    -----
    Examples are read in the order of their groups, so that each batch holds few of them: one
    product of the layers' factors for each group, ``O(n p)`` in all.
    """
    width = gradients.engine.task.n_parameters if projection is None else projection.dim
    _require(gradients.engine, n_groups, width, projection)
    order = np.argsort(groups, kind="stable")
    out = torch.zeros(n_groups, width, dtype=torch.float64, device=gradients.engine.task.device)
    owner, weights = groups[order], weights[torch.as_tensor(order, device=weights.device)]
    for rows, features in gradients.take(order):
        own = owner[rows]
        edges = np.flatnonzero(np.diff(own, prepend=-1, append=-1))
        shares = weights[rows].to(features.dtype)
        for some in chunks(len(edges) - 1, 8 * features.n_parameters, features.workspace):
            ends = edges[some.start : some.stop + 1]
            found = _sums(features, ends, shares, projection)
            out[torch.as_tensor(own[ends[:-1]], device=out.device)] += found.to(out.dtype)
    return out


def _sums(
    features: GradientFeatures, edges: np.ndarray, shares: Tensor, projection: Projection | None
) -> Tensor:
    """``Σ_i w_i g_i`` of the examples between two edges, or its projection."""
    ranges = [slice(low, high) for low, high in pairwise(edges)]
    if projection is None or isinstance(projection, DenseProjection):
        # Σ_{i in group} w_i g_i, and then one product with the dense matrix a group
        sums = torch.cat([features[r].weighted_sums(shares[None, r]) for r in ranges])
        return sums if projection is None else projection(_as_features(sums, features))
    # sketches read the layers' factors: P g_i first
    projected = features[slice(edges[0], edges[-1])].project(projection)
    first = int(edges[0])
    return torch.stack([shares[r] @ projected[r.start - first : r.stop - first] for r in ranges])


def _as_features(rows: Tensor, like: GradientFeatures) -> GradientFeatures:
    """Dense gradients (n, p) as the features of n examples."""
    block = DenseBlock(BlockSpec("all", (slice(0, rows.shape[1]),)), rows[:, None])
    return GradientFeatures({"all": block}, len(rows), 1, like.n_parameters, like.workspace)


def products(gradients: Gradients, matrix: Tensor, projection: Projection | None) -> Tensor:
    """Products ``G M``, or ``P G M``, of gradients with columns of ``matrix``.

    Parameters
    ----------
    gradients : Gradients
        Of some examples, one each.
    matrix : Tensor of shape (n_parameters, k), or (projection.dim, k)
    projection : Projection or None

    Returns
    -------
    Tensor of shape (n_examples, k)
    """
    if projection is None:
        return gradients @ matrix
    parts = [features.project(projection).to(matrix.dtype) @ matrix for _, features in gradients]
    return torch.cat(parts)


def _require(engine: Any, n_groups: int, width: int, projection: Projection | None) -> None:
    """Refuse group gradients that do not fit the memory."""
    needed = 8 * n_groups * width
    if needed <= engine.limit:
        return
    kind = f"{width:,} parameters" if projection is None else f"projection_dim={width:,}"
    raise ResourceError(
        f"max_memory: gradients of {n_groups:,} groups with {kind} need {format_bytes(needed)}, "
        f"but {engine.limit_in_words}. Use fewer groups, curvature='points', which does not need "
        f"this matrix, fewer dimensions (projection_dim), or {engine.more}."
    )
