"""Scores of all rows along recorded trainings on subsets, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from influencekit.attributors.along_the_run._adamw_influence import AdamWInfluence
from influencekit.attributors.along_the_run._fitted_run import unit_rows
from influencekit.attributors.along_the_run._sgd_influence import SGDInfluence
from influencekit.training.subsets._subset_runs import SubsetRuns
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils._long_work import progress

__all__ = ["Sweeps", "check_factors", "check_runs", "sweep_runs"]

#: Sweeps that the prior's scores, of a run on all rows, count as.
PRIOR_SWEEPS = 5
#: Steps of a training from one at which rows are scored to the next.
STRIDE = 4
#: From this number of sweeps on, the mean leaves out the largest and smallest share of them.
TRIMMED_FROM, TRIM = 50, 0.2


@dataclass(frozen=True)
class Sweeps:
    """Scores along trainings on subsets, of all rows.

    Parameters
    ----------
    masks : ndarray of bool of shape (n_trainings, n_train)
    scores : ndarray of shape (n_trainings, n_query, n_train)
        Scores of each training, at length 1 for each query.
    lengths : ndarray of shape (n_trainings, n_query)
        Their lengths before.
    """

    masks: NDArray
    scores: NDArray
    lengths: NDArray

    def joined(self, more: Sweeps) -> Sweeps:
        """These and further ones."""
        pairs = zip(vars(self).values(), vars(more).values(), strict=True)
        return Sweeps(*(np.concatenate(pair) for pair in pairs))

    def of(self, trainings: NDArray) -> Sweeps:
        """Those of some trainings."""
        return Sweeps(*(part[trainings] for part in vars(self).values()))

    def mean(self) -> NDArray:
        """Mean (n_query, n_train); trainings with and without the row count half each."""
        seen, unseen = self._mean(self.masks), self._mean(~self.masks)
        known = np.stack([self.masks.any(0), (~self.masks).any(0)])
        # (mean over those that saw row j + mean over the others) / 2, or one of them
        return (seen + unseen) / known.sum(0)

    def with_prior(self, prior: NDArray | None) -> NDArray:
        """Mean with the prior's scores, which count as five sweeps, at the prior's lengths."""
        mean, n = self.mean(), len(self.masks)
        if prior is None:
            return mean * self.lengths.mean(0)[:, None]
        mixed = (n * mean + PRIOR_SWEEPS * unit_rows(prior)) / (n + PRIOR_SWEEPS)
        return unit_rows(mixed) * np.linalg.norm(prior, axis=1, keepdims=True)

    def _mean(self, masks: NDArray) -> NDArray:
        """Mean over the trainings that masks select for each row; 0 where there is none."""
        if len(masks) < TRIMMED_FROM:
            total = np.einsum("mn,mqn->qn", masks.astype(float), self.scores)
            return total / np.maximum(masks.sum(0), 1)
        found = np.zeros(self.scores.shape[1:])
        for row in np.flatnonzero(masks.any(0)):
            found[:, row] = trim_mean(self.scores[masks[:, row], :, row], TRIM, axis=0)
        return found


def sweep_runs(
    model: Any, runs: SubsetRuns, train: Any, queries: Any, output: Any, verbose: int
) -> Sweeps:
    """Derivatives of the outputs through each recorded training, of all rows.

    Parameters
    ----------
    model : model or Task
        The model that was retrained.
    runs : SubsetRuns
        With trajectories.
    train, queries : Examples
    output : str or callable
    verbose : int

    Returns
    -------
    Sweeps
        Those of repeats of a subset are averaged.
    """
    found = []
    for subset in progress(range(len(runs.masks)), "sweeps", verbose, unit="run"):
        repeats = []
        for repeat, trajectory in enumerate(runs.states[subset]):
            sgd = isinstance(trajectory, Trajectory) and trajectory.optimizer == "SGD"
            kind = SGDInfluence if sgd else AdamWInfluence
            attributor = kind(trajectory, rows="all", output=output)
            task = runs.run(model, subset, repeat)
            repeats.append(with_stride(attributor.fit(task, train), STRIDE).score(queries))
        found.append(_unit_mean(repeats))
    scores, lengths = (np.stack(part) for part in zip(*found, strict=True))
    return Sweeps(runs.masks, scores, lengths)


def with_stride(attributor: Any, stride: int) -> Any:
    """A fitted attributor of all rows that scores only every ``stride``-th step."""
    sweep = attributor.fitted_[0].sweep
    sweep.stride = min(stride, sweep.replay.n_steps)
    return attributor


def check_factors(factors: Any) -> None:
    """Refuse factors on a prior's damping that are not numbers above 0."""
    try:
        given = np.atleast_1d(np.asarray(factors, dtype=float))
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.ndim != 1 or not len(given) or not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(
            f"damping_factors: got {factors!r:.80}; accepted are one or more finite numbers above "
            "0, such as (0.3, 1.0, 3.0)."
        )


def check_runs(subset_outputs: Any) -> None:
    """Refuse outputs of trainings that were not recorded.

    Raises
    ------
    ValueError
    """
    runs = subset_outputs.states if isinstance(subset_outputs, SubsetRuns) else [[None]]
    if not all(isinstance(run, Trajectory) for repeats in runs for run in repeats):
        raise ValueError(
            "subset_outputs: scores='sweep' goes through the recorded trainings, but these were "
            "not recorded. Retrain with retrain_on_subsets(..., record='trajectory'), or use "
            "scores='prior'."
        )


def _unit_mean(repeats: Sequence[NDArray]) -> tuple[NDArray, NDArray]:
    mean = np.mean([unit_rows(scores) for scores in repeats], axis=0)
    return mean, np.mean([np.linalg.norm(scores, axis=1) for scores in repeats], axis=0)
