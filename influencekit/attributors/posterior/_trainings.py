"""Trainings on subsets for a posterior: a fixed number, or block after block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influencekit.attributors.posterior._learned import LDS_FROM
from influencekit.base import BaseAttributor
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.training.subsets._subset_runs import SubsetRuns

__all__ = ["blocks", "joined", "predictions_of"]


def blocks(
    retrain: Callable[[int, int], SubsetOutputs], n_trainings: Any, most: int, seed: int
) -> Iterator[SubsetOutputs]:
    """Outputs of further trainings, until the caller has enough.

    Parameters
    ----------
    retrain : callable
        ``retrain(n_trainings, seed)``.
    n_trainings : int or "auto"
        "auto" trains 20 at a time. A block is stored and found again as one.
    most : int
        Number of trainings at which "auto" stops.
    seed : int
    """
    if n_trainings != "auto":
        yield retrain(n_trainings, seed)
        return
    for block, start in enumerate(range(0, most, LDS_FROM)):
        own = int(np.random.SeedSequence([seed, block]).generate_state(1)[0] >> 1)
        yield retrain(min(LDS_FROM, most - start), own)


def joined(first: SubsetOutputs | None, more: SubsetOutputs) -> SubsetOutputs:
    """Outputs of all trainings of two."""
    if first is None:
        return more
    parts = {
        name: np.concatenate([getattr(first, name), getattr(more, name)])
        for name in ("masks", "outputs", "seeds")
    }
    if isinstance(first, SubsetRuns) and isinstance(more, SubsetRuns):
        states = [*first.states, *more.states]
        return SubsetRuns(**parts, output=first.output, states=states)
    return SubsetOutputs(**parts, output=first.output)


def predictions_of(other: Any, subset_outputs: SubsetOutputs, n_query: int) -> NDArray:
    """What another posterior, or scores, predict of the same trainings.

    Raises
    ------
    ValueError
        If it learned from other trainings, or shapes differ.
    """
    masks = subset_outputs.masks
    if isinstance(other, BaseAttributor):
        theirs = getattr(other, "subset_outputs_", None)
        predictions = getattr(other, "predictions_", None)
        outputs = [] if theirs is None else theirs.outputs
        if predictions is None or not np.array_equal(outputs, subset_outputs.outputs):
            raise ValueError(
                f"other: this {type(other).__name__} did not learn from the same trainings. Fit it "
                "with subset_outputs=posterior.subset_outputs_, or give scores, such as "
                "other.score(X_query, y_query)."
            )
        return predictions
    scores = np.asarray(other, dtype=float)
    if scores.shape != (n_query, masks.shape[1]):
        raise ValueError(
            f"other: got scores of shape {scores.shape}; accepted is (n_query, n_train) = "
            f"{(n_query, masks.shape[1])}, for the queries given to fit, in their order."
        )
    return masks @ scores.T
