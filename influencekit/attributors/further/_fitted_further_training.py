"""Runs of further training that are planned, and what is measured on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from influencekit.base import Fitted
from influencekit.data._examples import Examples
from influencekit.training.further._plan import (
    FurtherPlan,
    further_seeds,
    mean_scores,
    scores_by_seed,
)
from influencekit.training.further._scores import FurtherTrainingScores
from influencekit.utils._random import draw_seed

__all__ = ["FittedFurtherTraining"]


class FittedFurtherTraining(Fitted):
    """Planned runs with and without each removal; they take place when queries ask.

    Parameters
    ----------
    attributor : FurtherTraining
        Says what is explained, the seeds, and where results are kept.
    plan : FurtherPlan
    left_out : ndarray
        Rows or groups that are left out, one a removal.
    removal_of_row : ndarray of int of shape (n_train,)
        Removal that each row of the data belongs to, negative if none.
    """

    def __init__(
        self, attributor: Any, plan: FurtherPlan, left_out: np.ndarray, removal_of_row: np.ndarray
    ):
        self.plan, self.left_out, self.removal_of_row = plan, left_out, removal_of_row
        self.output, self.adjust = attributor.output, attributor.adjust
        self.cache_dir, self.verbose = attributor.cache_dir, attributor.verbose
        self.entropy = draw_seed(attributor.random_state)
        self.seeds = further_seeds(self.entropy, attributor.n_repeats)

    def measure(self, queries: Examples, output: Any) -> FurtherTrainingScores:
        """Scores at every horizon, with the halves that tell their reliability."""
        runs = self.plan.runs(queries, output, self.cache_dir, self.verbose)
        return mean_scores(runs, self.seeds, self.adjust, self.left_out, self.removal_of_row)

    def iter_seeds(self, queries: Examples) -> Iterator[np.ndarray]:
        """Scores of one seed after the other, each (n_horizons, n_queries, n_left_out)."""
        runs = self.plan.runs(queries, self.output, self.cache_dir, self.verbose)
        yield from scores_by_seed(runs, self.seeds, self.adjust)

    def scores(self, queries: Examples) -> np.ndarray:
        scores = self.measure(queries, self.output).scores[-1]
        removal_of_row = self.plan.removals.removal_of_row
        return np.where(removal_of_row >= 0, scores[:, removal_of_row], 0.0)

    def self_scores(self) -> np.ndarray:
        removal_of_row = self.plan.removals.removal_of_row
        rows = np.flatnonzero(removal_of_row >= 0)
        scores = self.measure(self.plan.train.take(rows), "neg_loss").scores[-1]
        found = np.zeros(len(removal_of_row))
        found[rows] = scores[np.arange(len(rows)), removal_of_row[rows]]
        return found
