"""Fitted models as Tasks."""

from influencekit.models import adapters as _adapters  # noqa: F401  registers as_task
from influencekit.models._checkpoints import load_checkpoints
from influencekit.models._outputs import OUTPUTS, CheckedOutput, predicted_targets, resolve_output
from influencekit.models._task import Task, as_task
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._elementwise import PoissonLoss, SquaredError
from influencekit.models.losses._sequence import SequenceCrossEntropy

__all__ = [
    "OUTPUTS",
    "BinaryCrossEntropy",
    "CheckedOutput",
    "CrossEntropy",
    "CustomLoss",
    "OutputLoss",
    "PoissonLoss",
    "SequenceCrossEntropy",
    "SquaredError",
    "Task",
    "as_task",
    "load_checkpoints",
    "predicted_targets",
    "resolve_output",
]
