"""Reruns of a recorded training run, each without one example."""

from influencekit.training.leave_one_out._function import trajectory_leave_one_out
from influencekit.training.leave_one_out._result import TrajectoryLeaveOneOut

__all__ = ["TrajectoryLeaveOneOut", "trajectory_leave_one_out"]
