"""What every gradient attributor asks of the engine: which gradients, with which weights."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from influencekit.data import Examples
from influencekit.gradients import output_cotangent
from influencekit.models import OUTPUTS, Task, predicted_targets, resolve_output
from influencekit.utils import Interval, StrOptions

__all__ = ["GRADIENT_CONSTRAINTS", "query_cotangent", "training_weights"]

#: Constraints of the constructor parameters that all gradient attributors share.
GRADIENT_CONSTRAINTS: dict[str, list] = {
    "output": [StrOptions(set(OUTPUTS)), callable],
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "max_memory": [Interval(Integral, 1, None, closed="left"), str, None],
}


def query_cotangent(task: Task, output, queries: Examples):
    """Cotangent function of the explained output ``f``, whose value is higher for a better model.

    Queries without targets take the model's prediction as target.
    """
    has_targets = queries.targets is not None
    function = resolve_output(task, output, has_targets)
    if has_targets:
        return output_cotangent(function)

    def of_prediction(outputs, _):
        return function(outputs, predicted_targets(task, outputs.detach()))

    return output_cotangent(of_prediction)


def training_weights(task: Task, train: Examples) -> Tensor:
    """Weight ``w_j`` of every training example in the objective, float64, (n_train,)."""
    weights = task.example_weights(train.targets)
    if weights is None:
        return torch.ones(len(train), dtype=torch.float64, device=task.device)
    return weights.to(torch.float64)
