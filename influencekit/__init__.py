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
    TreeInfluence,
)
from influencekit.base import BaseAttributor, DampedFitted, Fitted
from influencekit.groups import GroupAttributor
from influencekit.models import Task, as_task
from influencekit.selection import (
    LDSSearch,
    SensitivityStudy,
    SurrogateLambdaSearchCV,
    lds_scorer,
)
from influencekit.training import (
    FurtherTrainingConfig,
    FurtherTrainingScores,
    SubsetOutputs,
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
    "TreeInfluence",
    "__version__",
    "as_task",
    "lds_scorer",
    "retrain_on_subsets",
]
