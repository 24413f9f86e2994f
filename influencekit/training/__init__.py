"""Training models anew: on subsets, many at once, with results that are kept; and further."""

from influencekit.training._checkpoints import KeepCheckpoints, train_checkpoints
from influencekit.training._rerun_without import rerun_without
from influencekit.training._step_checkpoints import CheckpointRecorder, record_checkpoints
from influencekit.training.further._config import ResolvedTraining
from influencekit.training.further._scores import FurtherTrainingScores
from influencekit.training.further._training import Training
from influencekit.training.leave_one_out._function import trajectory_leave_one_out
from influencekit.training.leave_one_out._result import TrajectoryLeaveOneOut
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.training.trajectory._error_proxy import ErrorProxy
from influencekit.training.trajectory._recorder import TrajectoryRecorder, record_trajectory
from influencekit.training.trajectory._sweep import StepScores
from influencekit.training.trajectory._trajectory import Trajectory

__all__ = [
    "CheckpointRecorder",
    "ErrorProxy",
    "FurtherTrainingScores",
    "KeepCheckpoints",
    "ResolvedTraining",
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
