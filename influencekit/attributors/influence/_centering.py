"""Whether a linear model is given with centered features, and their means."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.curvature._problem import Curvature
from influencekit.curvature.exact._centered_space import LARGEST_CENTERED
from influencekit.data._examples import Examples
from influencekit.models._centered import can_center, centered
from influencekit.models._task import Task

__all__ = ["with_centered_features"]


def with_centered_features(
    task: Task, train: Examples, curvature: Curvature, projection_dim: int | None
) -> Task:
    """A convex linear model with centered features, where its curvature is decomposed with them.

    Parameters
    ----------
    task : Task
    train : Examples
    curvature : Curvature
    projection_dim : int or None

    Returns
    -------
    Task
        Any other model as it is.
    """
    p = task.n_parameters
    projects = projection_dim is not None and projection_dim < p
    if not curvature.centers or projects or p > LARGEST_CENTERED or not can_center(task):
        return task
    return centered(task, _column_means(train))


def _column_means(examples: Examples, batch_size: int = 4096) -> Tensor:
    """Mean of each feature, float64."""
    first = next(iter(examples.batches(1))).inputs[0].double()
    sums = torch.zeros_like(first)
    for batch in examples.batches(batch_size):
        sums += (batch.inputs.double() - first).sum(0)
    return first + sums / len(examples)
