"""Per-example gradients: factored where layers allow, dense where not, projected on request."""

from influencekit.gradients._block import Block, BlockSpec
from influencekit.gradients._cotangents import (
    CotangentFunction,
    ggn_cotangent,
    loss_cotangent,
    output_cotangent,
    sampled_cotangent,
)
from influencekit.gradients._covariance import add_covariance, mirror
from influencekit.gradients._dense import DenseBlock
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients._index import IndexBlock
from influencekit.gradients._make_projection import PROJECTIONS, make_projection
from influencekit.gradients._outer import OuterBlock
from influencekit.gradients._plan import Plan, plan
from influencekit.gradients._projection import Projection
from influencekit.gradients._random import random_rows
from influencekit.gradients._sketches import project_sides
from influencekit.gradients._store import FeatureStore

__all__ = [
    "PROJECTIONS",
    "Block",
    "BlockSpec",
    "CotangentFunction",
    "DenseBlock",
    "FeatureStore",
    "GradientEngine",
    "GradientFeatures",
    "Gradients",
    "IndexBlock",
    "OuterBlock",
    "Plan",
    "Projection",
    "add_covariance",
    "ggn_cotangent",
    "loss_cotangent",
    "make_projection",
    "mirror",
    "output_cotangent",
    "plan",
    "project_sides",
    "random_rows",
    "sampled_cotangent",
]
