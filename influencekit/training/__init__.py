"""Training models anew: on subsets, many at once, with results that are kept; and further."""

from influencekit.training._checkpoints import KeepCheckpoints, train_checkpoints
from influencekit.training._further_config import FurtherTrainingConfig
from influencekit.training._further_scores import FurtherTrainingScores
from influencekit.training._retrain import retrain_on_subsets
from influencekit.training._subsets import SubsetOutputs

__all__ = [
    "FurtherTrainingConfig",
    "FurtherTrainingScores",
    "KeepCheckpoints",
    "SubsetOutputs",
    "retrain_on_subsets",
    "train_checkpoints",
]
