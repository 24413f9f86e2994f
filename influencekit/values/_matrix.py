"""Examples as arrays: all features in one matrix, classes as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.data._examples import Examples
from influencekit.data._sources import leaves
from influencekit.models.losses._base import class_positions
from influencekit.utils._arguments import warn_unused

__all__ = ["class_numbers", "matrix_of", "warn_unweighted"]

_BATCH = 1024


def matrix_of(examples: Examples) -> np.ndarray:
    """All inputs of every example in one row, (n, n_features) float64.

    Parameters
    ----------
    examples : Examples

    Returns
    -------
    ndarray
    """
    parts = []
    for batch in examples.batches(_BATCH):
        flat = [t.detach().cpu().double().numpy() for _, t in leaves(batch.inputs)]
        parts.append(np.hstack([t.reshape(len(t), -1) for t in flat]))
    return np.concatenate(parts)


def class_numbers(targets: Any) -> np.ndarray:
    """Class position of every example, (n,) int.

    Parameters
    ----------
    targets : Tensor

    Returns
    -------
    ndarray
    """
    return class_positions(targets).cpu().numpy()


def warn_unweighted(train: Examples, why: str) -> None:
    """Warn that weights that differ are left out of account.

    Parameters
    ----------
    train : Examples
    why : str
        After "is not used".
    """
    weights = train.weights
    if weights is not None and bool((weights != weights[0]).any()):
        warn_unused("sample_weight", weights.cpu().numpy(), why)
