"""The group form of an attributor's empirical Fisher matrix."""

from __future__ import annotations

from typing import Any

import torch

from influencekit._model_checks import learned_rows
from influencekit.attributors import TRAK
from influencekit.attributors._gradients import (
    gradient_engine,
    training_gradients,
    training_weights,
)
from influencekit.data import Examples
from influencekit.gradients import Gradients, output_cotangent
from influencekit.groups._explain import SlopeOutput
from influencekit.groups._fisher import GroupFisher, group_gradients
from influencekit.groups._groupers import RandomGrouper
from influencekit.models import Task, resolve_output

__all__ = ["fisher_of"]


def fisher_of(grouped: Any, task: Task, train: Examples) -> GroupFisher:
    """Group form of a group attributor's attributor.

    Parameters
    ----------
    grouped : GroupAttributor
        With its partition.
    task : Task
    train : Examples

    Returns
    -------
    GroupFisher

    Raises
    ------
    ValueError
        If the attributor's curvature is no empirical Fisher matrix.
    """
    attributor = grouped.attributor_
    engine = gradient_engine(attributor, task)
    weights = torch.zeros(len(train), dtype=torch.float64, device=task.device)
    learned = torch.as_tensor(learned_rows(task, train), device=task.device)
    weights[learned] = training_weights(task, train)[learned]
    total = float(weights.sum())
    labels, k = grouped.labels_, grouped.n_groups_
    right = group_gradients(training_gradients(engine, train), labels, k, weights) / total
    size = torch.zeros(k, dtype=torch.float64, device=right.device)
    size.index_add_(0, torch.as_tensor(labels, device=right.device), weights.to(right.device))
    form = grouped.fisher_form
    if form == "auto":
        form = "sum" if isinstance(grouped.grouper_, RandomGrouper) else "mean"
    each = total / (size.where(size > 0, 1.0) if form == "mean" else torch.ones_like(size))
    kernel, output = None, attributor.output
    if isinstance(attributor, TRAK):
        output = "margin" if task.kind == "classification" else "prediction"
        output = output if attributor.output == "auto" else attributor.output
        if grouped.trak_kernel == "output":
            function = output_cotangent(resolve_output(task, output, has_targets=True))
            kernel = group_gradients(Gradients(engine, train, function), labels, k, weights)
            kernel = kernel * (each.sqrt() / total)[:, None]
    elif attributor.curvature != "fisher":
        raise ValueError(
            f"curvature='groups': got InfluenceFunction({attributor.curvature!r}); accepted is "
            "InfluenceFunction('fisher'), whose matrix is made of the gradients that are grouped."
        )
    output = output if grouped.property is None else SlopeOutput()
    return GroupFisher(engine, output, right, kernel, each.sqrt(), attributor.damping)
