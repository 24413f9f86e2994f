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
    owner : ndarray of int of shape (n_train,)
        Removal that each row of the data belongs to, negative if none.
    """

    def __init__(self, attributor: Any, plan: FurtherPlan, left_out: np.ndarray, owner: np.ndarray):
        self.plan, self.left_out, self.owner = plan, left_out, owner
        self.output, self.adjust = attributor.output, attributor.adjust
        self.cache_dir, self.verbose = attributor.cache_dir, attributor.verbose
        self.entropy = draw_seed(attributor.random_state)
        self.seeds = further_seeds(self.entropy, attributor.n_seeds)

    def measure(self, queries: Examples, output: Any) -> FurtherTrainingScores:
        """Scores at every horizon, with the halves that tell their reliability."""
        runs = self.plan.runs(queries, output, self.cache_dir, self.verbose)
        return mean_scores(runs, self.seeds, self.adjust, self.left_out, self.owner)

    def iter_seeds(self, queries: Examples) -> Iterator[np.ndarray]:
        """Scores of one seed after the other, each (n_horizons, n_queries, n_left_out)."""
        runs = self.plan.runs(queries, self.output, self.cache_dir, self.verbose)
        yield from scores_by_seed(runs, self.seeds, self.adjust)

    def scores(self, queries):
        scores = self.measure(queries, self.output).scores[-1]
        owner = self.plan.removals.owner
        return np.where(owner >= 0, scores[:, owner], 0.0)

    def self_scores(self):
        owner = self.plan.removals.owner
        rows = np.flatnonzero(owner >= 0)
        scores = self.measure(self.plan.train.take(rows), "neg_loss").scores[-1]
        found = np.zeros(len(owner))
        found[rows] = scores[np.arange(len(rows)), owner[rows]]
        return found
