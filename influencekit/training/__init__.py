"""Training models anew: on subsets, many at once, with results that are kept; and further."""

from influencekit.training._checkpoints import KeepCheckpoints, train_checkpoints
from influencekit.training._rerun_without import rerun_without
from influencekit.training._step_checkpoints import CheckpointRecorder, record_checkpoints
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
    "CheckpointRecorder",
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
    "record_checkpoints",
    "record_trajectory",
    "rerun_without",
    "retrain_on_subsets",
    "train_checkpoints",
    "trajectory_leave_one_out",
]
