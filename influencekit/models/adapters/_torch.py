"""Bare torch modules as Tasks."""

from __future__ import annotations

from typing import Any

from torch import nn

from influencekit.models._module import copy_module, like_parameters
from influencekit.models._task import Task, as_task
from influencekit.models.adapters._transformers import (
    is_adapted,
    is_pretrained,
    transformers_task,
)
from influencekit.models.losses._criteria import read_criterion

__all__ = ["torch_task"]


@as_task.register(nn.Module)
def torch_task(model: nn.Module, loss: Any = None) -> Task:
    """Task of a trained torch module and the loss that it was trained with.

    Parameters
    ----------
    model : torch.nn.Module
        Parameters with ``requires_grad=False`` are treated as constants.
    loss : torch.nn.Module, callable or OutputLoss
        The criterion, for instance ``nn.CrossEntropyLoss(weight=w)`` or ``F.mse_loss``; or a
        function of (outputs, targets) that returns (n,) losses, their mean or their sum.
        For a loss of every token of a sequence: :class:`SequenceCrossEntropy`.  Models of the
        transformers library have their own loss, see :func:`transformers_task`.

    Returns
    -------
    Task
        A Task without penalty: weight decay belongs to the optimizer, which a module does not know.
        Add it by hand: ``dataclasses.replace(task, penalty={name: strength})``.

    Raises
    ------
    TypeError
        If the loss is missing or is not a loss.
    UnsupportedModelError
        If nothing is trainable, or the loss is not supported.
    """
    if is_pretrained(model) or is_adapted(model):
        return transformers_task(model, loss)
    if loss is None:
        raise TypeError(
            f"loss: missing. A bare {type(model).__name__} does not know what it was trained "
            "with; give it: as_task(model, loss=nn.CrossEntropyLoss()). Accepted are torch "
            "criteria, functions such as F.mse_loss, and any loss(outputs, targets)."
        )
    criterion = read_criterion(loss)
    module = copy_module(model)
    return Task(
        module=module,
        loss=criterion.loss,
        link=criterion.link,
        class_weight=like_parameters(criterion.class_weight, module),
        estimator=model,
        name=type(model).__name__,
    )
