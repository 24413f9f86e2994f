"""Training-data attribution for scikit-learn and torch."""

from influencekit._version import __version__
from influencekit.attributors import (
    TRAK,
    AdamWInfluence,
    FurtherTraining,
    GradCos,
    GradDot,
    InfluenceFunction,
    Loss,
    Random,
    SGDInfluence,
    TracIn,
)
from influencekit.base import BaseAttributor, DampedFitted, Fitted
from influencekit.groups import GroupAttributor
from influencekit.metrics import linear_datamodeling_score
from influencekit.models import Task, as_task
from influencekit.selection import (
    LDSSearch,
    SensitivityStudy,
    SurrogateLambdaSearchCV,
    compare,
    lds_scorer,
)
from influencekit.training import (
    FurtherTrainingConfig,
    FurtherTrainingScores,
    SubsetOutputs,
    Training,
    retrain_on_subsets,
)

__all__ = [
    "TRAK",
    "AdamWInfluence",
    "BaseAttributor",
    "DampedFitted",
    "Fitted",
    "FurtherTraining",
    "FurtherTrainingConfig",
    "FurtherTrainingScores",
    "GradCos",
    "GradDot",
    "GroupAttributor",
    "InfluenceFunction",
    "LDSSearch",
    "Loss",
    "Random",
    "SGDInfluence",
    "SensitivityStudy",
    "SubsetOutputs",
    "SurrogateLambdaSearchCV",
    "Task",
    "TracIn",
    "Training",
    "__version__",
    "as_task",
    "compare",
    "lds_scorer",
    "linear_datamodeling_score",
    "retrain_on_subsets",
]
