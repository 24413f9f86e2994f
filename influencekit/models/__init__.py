"""Fitted models as Tasks."""

from influencekit.models._losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    OutputLoss,
    SquaredError,
)
from influencekit.models._outputs import (
    OUTPUTS,
    OutputFunction,
    predicted_targets,
    resolve_output,
)
from influencekit.models._task import Task, as_task

__all__ = [
    "OUTPUTS",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "CustomLoss",
    "OutputFunction",
    "OutputLoss",
    "SquaredError",
    "Task",
    "as_task",
    "predicted_targets",
    "resolve_output",
]
