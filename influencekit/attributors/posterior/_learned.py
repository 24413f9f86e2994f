"""What the outputs of trainings on subsets say about scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from influencekit.attributors.posterior._linear_gaussian import (
    Posterior,
    best_posterior,
    candidates,
)
from influencekit.attributors.posterior._self_reported import (
    cross_validated_predictions,
    lds_with_error,
)
from influencekit.attributors.posterior._sweeps import Sweeps
from influencekit.training.subsets._subset_outputs import SubsetOutputs

__all__ = ["LDS_FROM", "Learned", "learn", "prior_only"]

#: Number of trainings below which all queries share one slope on the prior.
OWN_SLOPES_FROM = 50
#: Number of trainings below which no LDS is reported.
LDS_FROM = 20

Priors = dict[float, NDArray] | None


@dataclass(frozen=True)
class Learned:
    """Scores with what they were learned with.

    Parameters
    ----------
    scores : ndarray of shape (n_query, n_train)
    slopes : ndarray of shape (n_query,)
    noise_ratio, factor : float
    lds, std_error : float
        Self-reported LDS; NaN with few trainings.
    predictions : ndarray of shape (n_trainings, n_query) or None
        Those of the LDS.
    """

    scores: NDArray
    slopes: NDArray
    noise_ratio: float = 0.0
    factor: float = 1.0
    lds: float = float("nan")
    std_error: float = float("nan")
    predictions: NDArray | None = None

    def reaches(self, lds: float | None, std_error: float | None) -> bool:
        """Whether the self-reported LDS, or its error, is as good as asked for."""
        good = lds is not None and self.lds >= lds
        return bool(good or (std_error is not None and self.std_error <= std_error))


def prior_only(priors: dict[float, NDArray]) -> Learned:
    """The prior's scores, with no training."""
    scores = priors[1.0] if 1.0 in priors else next(iter(priors.values()))
    return Learned(scores, np.ones(len(scores)))


def learn(
    priors: Priors,
    subset_outputs: SubsetOutputs,
    sweeps: Sweeps | None,
    slope: str,
    cv: int,
    rng: np.random.RandomState,
) -> Learned:
    """Posterior of the scores, and the LDS that they report of themselves.

    Parameters
    ----------
    priors : dict of float to ndarray of shape (n_query, n_train), or None
        The prior's scores, by factor on its damping.
    subset_outputs : SubsetOutputs
    sweeps : Sweeps or None
        Scores along the trainings, which join the prior's.
    slope : {"auto", "shared", "own"}
    cv : int
    rng : RandomState
    """
    masks, outputs = subset_outputs.masks.astype(float), subset_outputs.mean_outputs()

    def fitted(kept: NDArray) -> Posterior:
        few = len(kept) < OWN_SLOPES_FROM
        shared = slope == "shared" or (slope == "auto" and few)
        # sweeps of trainings that are left out would know their ends
        mixed = priors if sweeps is None else _mixed(priors, sweeps.of(kept))
        return best_posterior(masks[kept], outputs[kept], candidates(mixed, masks.shape[1]), shared)

    best = fitted(np.arange(len(masks)))
    found = best.scores, best.slopes, best.noise_ratio, best.candidate.factor
    if len(masks) < LDS_FROM:
        return Learned(*found)
    predictions = cross_validated_predictions(masks, lambda kept: fitted(kept).scores, cv, rng)
    return Learned(*found, *lds_with_error(predictions, outputs, rng), predictions)


def _mixed(priors: Priors, sweeps: Sweeps) -> dict[float, NDArray]:
    """The prior's scores with those of the sweeps, at each factor on the prior's damping."""
    if priors is None:
        return {1.0: sweeps.with_prior(None)}
    return {factor: sweeps.with_prior(scores) for factor, scores in priors.items()}
