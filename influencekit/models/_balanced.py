"""Balanced weights of classes, as the installed scikit-learn computes them."""

from __future__ import annotations

from inspect import signature

import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

#: Earlier versions count the rows of a class and leave out their weights.
COUNTS_WEIGHTS = "sample_weight" in signature(compute_class_weight).parameters


def balanced_weights(targets: Tensor, sample_weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Weights of the classes, n / (number of classes · count), for classes that have rows.

    Parameters
    ----------
    targets : Tensor of shape (n,)
        Positions of the classes.
    sample_weight : Tensor of shape (n,) or None
        Weights of the rows.
    dtype : torch.dtype
        Type of the result.

    Returns
    -------
    Tensor of shape (n_classes,)
    """
    weights = sample_weight if COUNTS_WEIGHTS else None
    counts = torch.bincount(targets, weights)
    n_classes = int((counts > 0).sum())
    counts = torch.where(counts > 0, counts, 1).to(dtype)
    total = len(targets) if weights is None else float(weights.sum())
    return total / (n_classes * counts)
