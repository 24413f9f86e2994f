"""What a model does on a few rows, as a part of keys: for changes that its code does not tell."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor
from torch.utils._pytree import tree_leaves

from influencekit.models._task import Task
from influencekit.training._randomness import seeded, untouched
from influencekit.training.estimator._recipe import device_of, fresh_copy
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.utils._torch import MODULE_LOCK, select_rows
from influencekit.utils._torch import count_rows as n_inputs

__all__ = ["net_behavior", "task_behavior"]

#: Number of rows.
_FEW = 3


def net_behavior(estimator: Any, X: Any, y: Any) -> list[str]:
    """Outputs and loss of an untrained net with one seed, on a few rows.

    Parameters
    ----------
    estimator : estimator or None
    X, y : array-like
        As the estimator takes them.

    Returns
    -------
    list of str
        Rounded, so that the number of threads does not matter; empty where there is no net.
    """
    if not isinstance(estimator, NeuralNet):
        return []
    rows = np.arange(min(_FEW, count_rows(X)))
    with seeded(0, device_of(estimator)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _of_net(fresh_copy(estimator, 0), take_rows(X, rows), take_rows(y, rows))
        except Exception as error:  # training itself will say what is wrong
            return [type(error).__name__]


def _of_net(net: NeuralNet, X: Any, y: Any) -> list[str]:
    net.initialize()
    batch = next(iter(net.get_iterator(net.get_dataset(X, y), training=False)))
    outputs = net.evaluation_step(batch)
    trained = net.evaluation_step(batch, training=True)
    loss = net.get_loss(trained, batch[1], X=batch[0], training=True)
    return _digits([outputs, loss])


def task_behavior(task: Task, inputs: Any, targets: Tensor | None) -> list[str]:
    """Outputs and losses of a model on a few rows.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensor
    targets : Tensor or None

    Returns
    -------
    list of str
        Rounded, so that the number of threads does not matter.
    """
    few = select_rows(inputs, slice(0, _FEW), n_inputs(inputs))
    with MODULE_LOCK, torch.no_grad(), untouched(task.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outputs = task.forward(few)
            losses = None if targets is None else task.loss(outputs, targets[:_FEW])
        except Exception as error:  # the method itself will say what is wrong
            return [type(error).__name__]
    return _digits([outputs, losses])


def _digits(tree: Any) -> list[str]:
    """Three digits of a few sums over each tensor, with weights that see an exchange."""
    found = []
    for tensor in tree_leaves(tree):
        if isinstance(tensor, Tensor):
            values = tensor.detach().double().cpu().reshape(-1)
            places = torch.arange(len(values), dtype=torch.float64)
            size = float(values.abs().sum())
            sums = [float(values @ torch.cos(k * places)) for k in (0, 1, 2)]
            found += [f"{size:.3g}", *(f"{round(s / (size or 1), 3) + 0.0}" for s in sums)]
    return found
