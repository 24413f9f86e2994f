"""Influence functions for a stated amount of further training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from influencekit.attributors.further._further_training import FurtherTraining
from influencekit.data._examples import Examples
from influencekit.models._optimizers import OPTIMIZERS
from influencekit.models._task import Task
from influencekit.training.further._config import ResolvedTraining
from influencekit.training.further._optimizer import fitted_net
from influencekit.training.further._training import Training

__all__ = ["endpoint_task", "further_training_of", "sgd_config"]


def further_training_of(further: Any, task: Task, random_state: Any = None) -> FurtherTraining:
    """The given configuration, or else the fitted skorch net's own training.

    ``random_state`` is the seed for running a :class:`Training`, which does not have one itself.

    Raises
    ------
    ValueError
        If the amount of further training is not stated anywhere.
    """
    if isinstance(further, Training):
        return FurtherTraining(training=further, random_state=random_state)
    if further is not None:
        return further
    net = fitted_net(task)
    if net is None:
        raise ValueError(
            f"further_training: got None, and {task.name} does not have a learning rate. State "
            f"how long to train the model further: further_training=Training(lr=0.01, epochs=5)."
        )
    return FurtherTraining(epochs=int(net.max_epochs))


def sgd_config(further: FurtherTraining, task: Task, n_rows: int, asked: str) -> ResolvedTraining:
    """Configuration of a further training, refused unless it is gradient descent.

    ``asked`` is the parameter that needs it, for the message.
    """
    config = further.resolve(task, n_rows)
    if not OPTIMIZERS[config.optimizer].descends:
        raise ValueError(
            f"{asked}: the further training uses {config.optimizer}, which scales each "
            "parameter's step by its own gradients, so its steps are not a function of the "
            "curvature, and no damping rule for it has performed well. Use optimizer='sgd' or "
            "at='endpoint', "
            "and give a damping or choose it with SurrogateLambdaSearchCV."
        )
    return config


def endpoint_task(further: FurtherTraining, task: Task, train: Examples) -> Task:
    """The model after one further training on all data, with its own seed.

    ``train`` holds the rows that the model learned from, so no rows are held out again.
    """
    return further.endpoint_of(replace(task, training_rows=None), train)
