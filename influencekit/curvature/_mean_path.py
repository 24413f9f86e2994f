"""Damping path of several models: scores are averaged over them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from influencekit.curvature._spectrum import DampingPath, SubsetSums, check_masks

__all__ = ["MeanPath"]


@dataclass
class MeanPath(DampingPath):
    """Average of the paths of several models on the same data.

    Attributes
    ----------
    paths : list of DampingPath
    rows : list of ndarray of int
        Training rows that each model learned from.
    train_rows : ndarray of int
        Rows that any model learned from: the columns of the results.
    """

    paths: list
    rows: list
    train_rows: np.ndarray

    def __post_init__(self) -> None:
        self.columns = [np.searchsorted(self.train_rows, rows) for rows in self.rows]

    def products(self, damping: float) -> Tensor:
        raise NotImplementedError("Each model has its own example weights; use scores.")

    def scores(self, damping: float) -> np.ndarray:
        total: Any = 0.0
        for own, columns, path in zip(self._each(damping), self.columns, self.paths, strict=True):
            scores = path.scores(own)
            full = np.zeros((len(scores), len(self.train_rows)))
            full[:, columns] = scores
            total = total + full
        return total / len(self.paths)

    def xi(self, dampings: ArrayLike) -> np.ndarray:
        """Mean of the models' surrogate indicators; NaN if it is not defined for any model."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of an empty slice is NaN
            return np.nanmean([path.xi(dampings) for path in self.paths], axis=0)

    def subset_sums(self, masks: ArrayLike) -> SubsetSums:
        masks = check_masks(masks, len(self.train_rows))
        parts = zip(self.columns, self.paths, strict=True)
        return MeanSums([path.subset_sums(masks[:, columns]) for columns, path in parts])

    def _each(self, damping: Any) -> Any:
        """One damping for each model, from one for all or a list with one for each."""
        return np.broadcast_to(np.asarray(damping, dtype=np.float64), len(self.paths))


@dataclass
class MeanSums(SubsetSums):
    """Average of the subset sums of several models.

    Attributes
    ----------
    parts : list of SubsetSums
    """

    parts: list[SubsetSums]

    def at(self, damping: ArrayLike) -> np.ndarray:
        return np.mean([part.at(damping) for part in self.parts], axis=0)
