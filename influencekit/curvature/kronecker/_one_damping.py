"""Cosines with Grad-Dot and ξ at one damping, from the few coordinates that decide them there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from influencekit.curvature._spectrum import FAR, row_cosines
from influencekit.curvature.kronecker._binned import (
    dense_layers,
    dense_parts,
    path_of_others,
    put_rows,
)
from influencekit.curvature.kronecker._spectrum import KroneckerSpectrum

__all__ = ["indicators_at"]

#: Share of the mean squared scores, and of each sum of ξ, in coordinates that are left out.
_SHARE = 1e-4
#: Share of the coordinates above which the sums over all of them, at any damping, cost little more.
_MANY = 0.5
#: Bins for each factor of ten of a coordinate's share.
_BINS = 10


def indicators_at(
    spectrum: KroneckerSpectrum, rows: Tensor, damping: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cosines with Grad-Dot, and ξ, of some training examples as queries, at one damping.

    Parameters
    ----------
    spectrum : KroneckerSpectrum
        With the training examples to score.
    rows : Tensor of int64
        Positions of the queries among them.
    damping : float

    Returns
    -------
    cosines, xi : ndarray of shape (n_queries,), or None
        None where hardly any coordinates can be left out.
    """
    names, dampings = dense_layers(spectrum, rows), (FAR * float(spectrum.bounds.max()), damping)
    kept = _leading(spectrum, damping)
    if not names or float(kept.double().mean()) > _MANY:
        return None
    rest = path_of_others(spectrum, rows, names)
    sums = rest.power_sums(np.array([damping]))[:, 0]
    products = torch.stack([rest.products(one) for one in dampings])
    inverses = torch.stack([spectrum.inverse_table(one) for one in dampings])
    largest = inverses[1].max()
    for name in names:
        columns = spectrum.bases[name].columns
        leading = kept[columns].nonzero()[:, 0]
        left = products.new_empty(len(rows), len(leading))
        put_rows(spectrum.train, name, leading, rows, left)
        own = inverses[:, columns][:, leading]
        data = (spectrum.data_table / spectrum.data_table.max())[columns][leading]
        powers = torch.stack([data * (own[1] / largest) ** k for k in (1, 2, 3)])
        # t_k = Σ_j d_j c_j² / (s_j + λ)^k
        sums += powers @ left.to(powers.dtype).square().mT
        both = (left * own.to(left.dtype)[:, None]).flatten(0, 1)
        for at, right in dense_parts(spectrum.train, name, leading):
            # Σ_k c_ik c_jk / (s_k + λ) at both dampings
            products[:, :, at] += (both @ right.mT).unflatten(0, (2, -1))
    weighted = products.double() * spectrum.problem.example_weights.to(products.device)
    reference, scores = weighted.cpu().numpy()
    t1, t2, t3 = sums
    return row_cosines(scores, reference), (t2 / torch.sqrt(t1 * t3)).cpu().numpy()


def _leading(spectrum: KroneckerSpectrum, damping: float) -> Tensor:
    """Which coordinates are needed at a damping, (p,) bool.

    The mean square of coordinate k is ``d_k``, as far as a Kronecker product tells.
    """
    data = spectrum.data_table / spectrum.data_table.max()
    inverse = spectrum.inverse_table(damping)
    each, ratio = data.square(), inverse / inverse.max()
    largest = torch.zeros_like(data)
    for _ in range(4):
        # d_k² / (s_k + λ)^j: of Grad-Dot's scores for j = 0, of the sums of ξ, of scores for j = 2
        largest = torch.maximum(largest, each / each.sum())
        each = each * ratio
    depth = (-torch.log10(largest.clamp_min(1e-30)) * _BINS).long()
    below = torch.bincount(depth, largest).flip(0).cumsum(0).flip(0)
    # whole bins, from the smallest shares on
    return (below > _SHARE)[depth]
