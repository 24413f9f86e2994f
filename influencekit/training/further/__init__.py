"""Further training of a fitted model with and without each example."""

from influencekit.training.further._config import FurtherTrainingConfig
from influencekit.training.further._scores import FurtherTrainingScores

__all__ = ["FurtherTrainingConfig", "FurtherTrainingScores"]
