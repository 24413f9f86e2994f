"""Per-example gradients: factored if layers allow it, otherwise dense; projected on request."""

from influencekit.gradients._cotangents import (
    ggn_cotangent,
    loss_cotangent,
    output_cotangent,
    sampled_cotangent,
)
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.projections._make_projection import make_projection

__all__ = [
    "GradientEngine",
    "Gradients",
    "ggn_cotangent",
    "loss_cotangent",
    "make_projection",
    "output_cotangent",
    "sampled_cotangent",
]
