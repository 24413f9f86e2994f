"""Training models anew: on subsets, many at once, with results that are kept; and further."""

from influencekit.training._checkpoints import KeepCheckpoints, train_checkpoints
from influencekit.training.further._config import FurtherTrainingConfig
from influencekit.training.further._scores import FurtherTrainingScores
from influencekit.training.further._training import Training
from influencekit.training.leave_one_out import TrajectoryLeaveOneOut, trajectory_leave_one_out
from influencekit.training.subsets import SubsetOutputs, retrain_on_subsets
from influencekit.training.trajectory import (
    ErrorProxy,
    StepScores,
    Trajectory,
    TrajectoryRecorder,
    record_trajectory,
)

__all__ = [
    "ErrorProxy",
    "FurtherTrainingConfig",
    "FurtherTrainingScores",
    "KeepCheckpoints",
    "StepScores",
    "SubsetOutputs",
    "Training",
    "Trajectory",
    "TrajectoryLeaveOneOut",
    "TrajectoryRecorder",
    "record_trajectory",
    "retrain_on_subsets",
    "train_checkpoints",
    "trajectory_leave_one_out",
]
