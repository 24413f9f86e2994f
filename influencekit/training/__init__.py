"""Retraining models on subsets, many at once, with stored results; and further training."""

from influencekit.training._checkpoints import KeepCheckpoints, train_checkpoints
from influencekit.training._rerun_without import rerun_without
from influencekit.training._step_checkpoints import record_checkpoints
from influencekit.training._trainer_callbacks import TrainerCheckpoints, TrainerRecorder
from influencekit.training.further._training import Training
from influencekit.training.leave_one_out._function import trajectory_leave_one_out
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.training.subsets._subset_runs import SubsetRuns
from influencekit.training.trajectory._recorder import TrajectoryRecorder, record_trajectory
from influencekit.training.trajectory._trajectory import Trajectory

__all__ = [
    "KeepCheckpoints",
    "SubsetOutputs",
    "SubsetRuns",
    "TrainerCheckpoints",
    "TrainerRecorder",
    "Training",
    "Trajectory",
    "TrajectoryRecorder",
    "record_checkpoints",
    "record_trajectory",
    "rerun_without",
    "retrain_on_subsets",
    "train_checkpoints",
    "trajectory_leave_one_out",
]
