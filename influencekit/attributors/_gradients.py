"""What every gradient attributor asks of the engine: which gradients, with which weights."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import loss_cotangent, output_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.models._outputs import OUTPUTS, predicted_targets, resolve_output
from influencekit.models._task import Task
from influencekit.utils.validation import Interval, StrOptions

__all__ = [
    "GRADIENT_CONSTRAINTS",
    "gradient_engine",
    "query_gradients",
    "training_gradients",
    "training_weights",
]

#: Constraints of the constructor parameters that all gradient attributors share.
GRADIENT_CONSTRAINTS: dict[str, list] = {
    "output": [StrOptions(set(OUTPUTS)), callable],
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "max_memory": [Interval(Integral, 1, None, closed="left"), str, None],
    "verbose": ["verbose"],
}


def gradient_engine(attributor, task: Task) -> GradientEngine:
    """Engine with an attributor's batch size, memory and progress."""
    return GradientEngine(
        task,
        batch_size=attributor.batch_size,
        max_memory=attributor.max_memory,
        verbose=attributor.verbose,
    )


def training_gradients(engine: GradientEngine, train: Examples, shares=None) -> Gradients:
    """Gradients of the training examples' losses."""
    return Gradients(engine, train, loss_cotangent(engine.task), shares=shares)


def query_gradients(engine: GradientEngine, output, queries: Examples) -> Gradients:
    """Gradients of the explained output ``f``, whose value is higher for a better model.

    Queries without targets take the model's prediction as target.
    """
    task, has_targets = engine.task, queries.targets is not None
    function = resolve_output(task, output, has_targets, finite=True)

    def of_prediction(outputs, _):
        return function(outputs, predicted_targets(task, outputs.detach()))

    explained = function if has_targets else of_prediction
    return Gradients(engine, queries, output_cotangent(explained))


def training_weights(task: Task, train: Examples) -> Tensor:
    """Weight ``w_j`` of every training example in the objective, float64, (n_train,)."""
    weights = task.example_weights(train.targets, train.weights)
    if weights is None:
        return torch.ones(len(train), dtype=torch.float64, device=task.device)
    return weights.to(torch.float64)
