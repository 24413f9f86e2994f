"""The group form of an attributor's empirical Fisher matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from influencekit._fitted import DampedFitted
from influencekit._model_checks import learned_rows
from influencekit.attributors import TRAK
from influencekit.attributors._gradients import (
    gradient_engine,
    query_cotangent,
    training_weights,
)
from influencekit.attributors._trak import loss_slopes, trak_outputs
from influencekit.data import Examples
from influencekit.gradients import loss_cotangent, output_cotangent
from influencekit.groups._explain import SlopeOutput
from influencekit.groups._fisher import GroupFisher, group_gradients
from influencekit.groups._groupers import RandomGrouper
from influencekit.models import Task, resolve_output

__all__ = ["fisher_of"]


class FittedGroupFisher(DampedFitted):
    """A group Fisher matrix of one model, and what is explained.

    Parameters
    ----------
    fisher : GroupFisher
    task : Task
    output : str or callable
    """

    def __init__(self, fisher: GroupFisher, task: Task, output: Any):
        self.fisher, self.task, self.output = fisher, task, output
        self.damping = fisher.damping
        self.eigenvalues = fisher.eigenvalues()

    def at(self, damping):
        fisher = self.fisher.at(damping)
        return self._with(fisher=fisher, damping=fisher.damping)

    def path(self, queries):
        return self.fisher.path(queries, query_cotangent(self.task, self.output, queries))

    def scores(self, queries):
        return self.fisher.scores(queries, query_cotangent(self.task, self.output, queries))


def fisher_of(grouped: Any, task: Task, train: Examples) -> tuple[FittedGroupFisher, np.ndarray]:
    """Group form of a group attributor's attributor.

    Parameters
    ----------
    grouped : GroupAttributor
        With its partition.
    task : Task
    train : Examples

    Returns
    -------
    fitted : FittedGroupFisher
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
    slopes: Any = 1.0
    cotangent, kernel, output = loss_cotangent(task), None, attributor.output
    if isinstance(attributor, TRAK):
        output, linearised = trak_outputs(task, output, train.targets)
        if grouped.trak_kernel == "output":  # ∇loss_j is ∂loss_j/∂f ∇f_j in the linearized model
            function = resolve_output(task, linearised, has_targets=True)
            cotangent, slopes = output_cotangent(function), loss_slopes(task, train, function)
            kernel = group_gradients(engine, train, cotangent, labels, k, weights)
            kernel = kernel * (each.sqrt() / total)[:, None]
    elif attributor.curvature != "fisher":
        raise ValueError(
            f"curvature='groups': got InfluenceFunction({attributor.curvature!r}); accepted is "
            "InfluenceFunction('fisher'), whose matrix is made of the gradients that are grouped."
        )
    right = group_gradients(engine, train, cotangent, labels, k, weights * slopes) / total
    fisher = GroupFisher(engine, right, kernel, each.sqrt(), attributor.damping)
    output = output if grouped.property is None else SlopeOutput()
    return FittedGroupFisher(fisher, task, output), rows
