"""What every gradient attributor asks of the engine: which gradients, with which weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from influencekit.data import Examples
from influencekit.gradients import (
    GradientEngine,
    Gradients,
    loss_cotangent,
    output_cotangent,
)
from influencekit.models import OUTPUTS, Task, predicted_targets, resolve_output
from influencekit.utils import Interval, StrOptions

__all__ = [
    "GRADIENT_CONSTRAINTS",
    "CheckedOutput",
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


@dataclass(frozen=True)
class CheckedOutput:
    """A user's output function, whose results are looked at."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        values, n = self.function(outputs, targets), len(outputs)
        got = (
            f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        )
        if not isinstance(values, Tensor) or values.shape != (n,):
            raise ValueError(
                f"output: the function returned {got} for {n} examples; accepted is a Tensor with "
                f"one number an example, shape ({n},). Take losses with reduction='none', and "
                "stay in torch."
            )
        if not bool(torch.isfinite(values).all()):
            raise ValueError(
                "output: the function returned NaN or infinity; accepted are finite numbers. "
                "Look for a logarithm or a root of a negative number, or a division by 0."
            )
        return values


def training_gradients(engine: GradientEngine, train: Examples, shares=None) -> Gradients:
    """Gradients of the training examples' losses."""
    return Gradients(engine, train, loss_cotangent(engine.task), shares=shares)


def query_gradients(engine: GradientEngine, output, queries: Examples) -> Gradients:
    """Gradients of the explained output ``f``, whose value is higher for a better model.

    Queries without targets take the model's prediction as target.
    """
    task, has_targets = engine.task, queries.targets is not None
    function = resolve_output(task, output, has_targets)
    if callable(output):
        function = CheckedOutput(output)

    def of_prediction(outputs, _):
        return function(outputs, predicted_targets(task, outputs.detach()))

    explained = function if has_targets else of_prediction
    return Gradients(engine, queries, output_cotangent(explained))


def training_weights(task: Task, train: Examples) -> Tensor:
    """Weight ``w_j`` of every training example in the objective, float64, (n_train,)."""
    weights = task.example_weights(train.targets)
    if weights is None:
        return torch.ones(len(train), dtype=torch.float64, device=task.device)
    return weights.to(torch.float64)
