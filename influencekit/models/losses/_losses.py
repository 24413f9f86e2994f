"""Losses as functions of a model's natural outputs, with their curvature in output space.

The loss is convex in the natural outputs: logits for a classifier, the prediction for a regressor.
Each loss defines three things: its value per example, the factor ``L`` of its Hessian with respect
to the outputs (``H = L Lᵀ``), and the coordinates ``c`` of its gradient in that factor (``∇ = L
c``).  The generalized Gauss-Newton matrix needs all three.
"""

from influencekit.models.losses._base import HessianFactor, OutputLoss, class_positions
from influencekit.models.losses._binary import BinaryCrossEntropy, BinaryLoss, MarginLoss
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._elementwise import (
    ColumnLoss,
    ElementwiseLoss,
    PoissonLoss,
    SquaredError,
)
from influencekit.models.losses._sequence import SequenceCrossEntropy

__all__ = [
    "BinaryCrossEntropy",
    "BinaryLoss",
    "ColumnLoss",
    "CrossEntropy",
    "CustomLoss",
    "ElementwiseLoss",
    "HessianFactor",
    "MarginLoss",
    "OutputLoss",
    "PoissonLoss",
    "SequenceCrossEntropy",
    "SquaredError",
    "class_positions",
]
