"""Weighted sums of outer products of gradients, without dense rows where factors save work."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.gradients._block import chunks
from influencekit.gradients._features import GradientFeatures

__all__ = ["add_covariance"]


def add_covariance(features: GradientFeatures, weights: Tensor | None, out: Tensor) -> None:
    """Add ``Σ_rows w g gᵀ`` to ``out`` (p, p), in its dtype.

    Parameters
    ----------
    features : GradientFeatures
    weights : Tensor of shape (n_rows,) or None
    out : Tensor of shape (p, p)
    """
    each = 2 * features.rows_per_example * features.n_parameters * out.element_size()
    for part in chunks(features.n_examples, each, features.workspace):
        dense = features[part].materialize(out.dtype)
        r = features.rows_per_example
        left = dense.T
        if weights is not None:
            left = left * weights[part.start * r : part.stop * r].to(out.dtype)
        torch.addmm(out, left, dense, out=out)
