"""The group form of an attributor's empirical Fisher matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from influencekit._fitted import learned_rows
from influencekit.attributors import TRAK
from influencekit.attributors._gradients import (
    gradient_engine,
    training_gradients,
    training_weights,
)
from influencekit.attributors._trak import NamedOutput, loss_slopes, trak_outputs
from influencekit.data import Examples
from influencekit.gradients import Gradients, output_cotangent
from influencekit.groups._explain import SlopeOutput
from influencekit.groups._fisher import GroupFisher, group_gradients
from influencekit.groups._groupers import RandomGrouper
from influencekit.models import Task

__all__ = ["fisher_of"]


def fisher_of(grouped: Any, task: Task, train: Examples) -> tuple[GroupFisher, np.ndarray]:
    """Group form of a group attributor's attributor.

    Parameters
    ----------
    grouped : GroupAttributor
        With its partition.
    task : Task
    train : Examples

    Returns
    -------
    fisher : GroupFisher
    rows : ndarray of int
        That the model learned from.

    Raises
    ------
    ValueError
        If the attributor's curvature is no empirical Fisher matrix.
    """
    attributor = grouped.attributor_
    engine = gradient_engine(attributor, task)
    weights = torch.zeros(len(train), dtype=torch.float64, device=task.device)
    rows = learned_rows(task, train)
    learned = torch.as_tensor(rows, device=task.device)
    weights[learned] = training_weights(task, train)[learned]
    total = float(weights.sum())
    labels, k = grouped.labels_, grouped.n_groups_
    size = weights.new_zeros(k)
    size.index_add_(0, torch.as_tensor(labels, device=task.device), weights)
    form = grouped.fisher_form
    if form == "auto":
        form = "sum" if isinstance(grouped.grouper_, RandomGrouper) else "mean"
    each = total / (size.where(size > 0, 1.0) if form == "mean" else torch.ones_like(size))
    gradients, slopes = training_gradients(engine, train), torch.ones_like(weights)
    kernel, output = None, attributor.output
    if isinstance(attributor, TRAK):
        output, linearized = trak_outputs(task, output, train.targets)
        if grouped.trak_kernel == "output":  # ∇loss_j is ∂loss_j/∂f ∇f_j in the linearized model
            function = NamedOutput(task, linearized)
            gradients = Gradients(engine, train, output_cotangent(function))
            slopes = loss_slopes(task, train, function)
            kernel = group_gradients(gradients, labels, k, weights)
            kernel = kernel * (each.sqrt() / total)[:, None]
    elif attributor.curvature != "fisher":
        raise ValueError(
            f"curvature='groups': got InfluenceFunction({attributor.curvature!r}); accepted is "
            "InfluenceFunction('fisher'), whose matrix is made of the gradients that are grouped."
        )
    right = group_gradients(gradients, labels, k, weights * slopes) / total
    output = output if grouped.property is None else SlopeOutput()
    return GroupFisher(engine, output, right, kernel, each.sqrt(), attributor.damping), rows
