"""Examples as arrays: all features in one matrix, classes as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.data._examples import Examples
from influencekit.data._sources import leaves
from influencekit.models.losses._base import class_positions

__all__ = ["class_numbers", "matrix_of"]

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
