"""Per-example gradients: factored where layers allow, dense where not, projected on request."""

from influencekit.gradients._cotangents import (
    CotangentFunction,
    ggn_cotangent,
    loss_cotangent,
    output_cotangent,
    sampled_cotangent,
)
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients._plan import Plan, plan
from influencekit.gradients._store import FeatureStore
from influencekit.gradients.blocks._base import Block, BlockSpec, symmetrize
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.gradients.projections._base import Projection
from influencekit.gradients.projections._make_projection import PROJECTIONS, make_projection
from influencekit.gradients.projections._random import random_rows
from influencekit.gradients.projections._sketches import project_sides

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
    "ggn_cotangent",
    "loss_cotangent",
    "make_projection",
    "output_cotangent",
    "plan",
    "project_sides",
    "random_rows",
    "sampled_cotangent",
    "symmetrize",
]
