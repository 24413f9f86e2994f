"""Trial reruns of a recorded run: which form of the curvature predicts them, and how well."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from influencekit.attributors.along_the_run._fitted_sweep import FittedSweep
from influencekit.data._examples import Examples
from influencekit.metrics._correlation import standardize_rows
from influencekit.training.leave_one_out._reruns import EVALUATION_ROWS, Reruns
from influencekit.training.stack._tasks import Evaluation
from influencekit.training.stack._trial import N_ROWS, why_runs_differ
from influencekit.training.trajectory._kinks import SMOOTHING
from influencekit.training.trajectory._replay import Replay
from influencekit.utils.validation import present

__all__ = ["FORMS", "SHARES", "Form", "Trial", "runs_together"]

#: Shares of the rows that the reruns leave out.
SHARES = (0.1, 0.01)
#: Reruns for each share, and training rows that serve as queries.
N_RERUNS, N_QUERIES = 32, 16
#: Reruns with finite outputs below which nothing is concluded.
FEWEST = 8


class Form(NamedTuple):
    """A form of the curvature, and its width at kinks."""

    curvature: str
    smoothing: float = SMOOTHING


#: The exact one is first, and taken where nothing can be said.
FORMS = (Form("hessian"), Form("smoothed_hessian", 0.1), Form("smoothed_hessian", 0.3), Form("ggn"))


class Trial:
    """Reruns of a recorded run without random sets of rows, evaluated at some training rows.

    The queries are never left out.  All draws have a fixed seed.

    Parameters
    ----------
    fitted : FittedSweep
        The recorded run with its data, and what is explained.
    removal : {"renormalize", "fixed"}
    train_rows : ndarray of int
        Rows that the run learned from.
    """

    def __init__(self, fitted: FittedSweep, removal: str, train_rows: NDArray):
        own = fitted.replay
        task, n = own.model.task, own.n_train
        rng = np.random.RandomState(0)
        order = rng.permutation(n)
        queries, others = np.split(order, [max(1, min(N_QUERIES, n // 3))])
        self.queries: Examples = fitted.train.take(np.sort(queries))
        self.masks = {share: _masks(n, others, share, rng) for share in SHARES}
        replay = Replay(task, own.trajectory, fitted.train, train_rows, own.weights, torch.float64)
        together = runs_together(fitted)
        reruns = Reruns(replay, removal, together)
        evaluation = Evaluation(task, self.queries, fitted.output, together, EVALUATION_ROWS)
        self.outputs = {
            share: evaluation(reruns.keeping(torch.as_tensor(masks)))
            for share, masks in self.masks.items()
        }

    def lds(self, scores: NDArray) -> NDArray:
        """LDS (n_shares,) of scores (n_queries, n_train); NaN where too few outputs are finite."""
        return np.array([self._of_share(share, scores) for share in SHARES])

    def _of_share(self, share: float, scores: NDArray) -> float:
        outputs = self.outputs[share]
        finite = np.isfinite(outputs).all(axis=1)
        if finite.sum() < FEWEST or not np.isfinite(scores).all():
            return float("nan")
        predicted = scores @ self.masks[share][finite].T.astype(float)
        found, truth = (
            standardize_rows(rows, "spearman") for rows in (predicted, outputs[finite].T)
        )
        each = (found * truth).sum(axis=1)
        return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def _masks(n: int, others: NDArray, share: float, rng: np.random.RandomState) -> NDArray[np.bool_]:
    masks = np.ones((N_RERUNS, n), dtype=bool)
    count = min(max(1, round(share * n)), len(others))
    for mask in masks:
        mask[rng.choice(others, count, replace=False)] = False
    return masks


def runs_together(fitted: FittedSweep) -> bool:
    """Whether many copies of the model can be trained at once."""
    few = next(fitted.train.batches(N_ROWS))
    targets = present(few.targets, "training targets")
    return why_runs_differ(fitted.replay.model.task, few.inputs, targets) is None
