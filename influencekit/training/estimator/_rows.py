"""Rows of any container of training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

__all__ = ["count_rows", "dataset_of", "take_rows", "yields_targets"]


def dataset_of(X: Any) -> Any:
    """The dataset of a DataLoader, in its own order; anything else unchanged."""
    return X.dataset if isinstance(X, DataLoader) else X


def count_rows(X: Any) -> int:
    """Number of examples in X: an array, frame, sparse matrix, tensor, list, dict or Dataset."""
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # scipy's dok matrices are dicts
        return count_rows(next(iter(X.values())))
    if isinstance(X, tuple):
        return count_rows(X[0])
    return X.shape[0] if hasattr(X, "shape") else len(X)


def yields_targets(X: Any) -> bool:
    """Whether X is a Dataset whose items contain inputs and targets."""
    if not isinstance(X, Dataset) or count_rows(X) == 0:
        return False
    item = X[0]
    if isinstance(item, Mapping):
        return bool({"labels", "label"} & set(item))
    return isinstance(item, (tuple, list)) and len(item) > 1


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Some rows of X, in the given order, in the same kind of container.

    Parameters
    ----------
    X : array-like, DataFrame, sparse matrix, Tensor, list of rows, dict or tuple of them, Dataset
    rows : ndarray of int

    Returns
    -------
    same kind as X
    """
    if X is None:
        return None
    if isinstance(X, Mapping) and not hasattr(X, "shape"):
        return {key: take_rows(value, rows) for key, value in X.items()}
    if isinstance(X, tuple):
        return tuple(take_rows(part, rows) for part in X)
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, Dataset):
        return Subset(X, rows.tolist())
    if isinstance(X, torch.Tensor):
        return X[torch.as_tensor(rows, device=X.device)]
    if hasattr(X, "shape"):
        return (X.tocsr() if hasattr(X, "tocsr") else X)[rows]
    return [X[i] for i in rows]
