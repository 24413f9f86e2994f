"""Training runs that are recorded, replayed and differentiated."""

from influencekit.training.trajectory._error_proxy import ErrorProxy
from influencekit.training.trajectory._finite_removal import FinitePush
from influencekit.training.trajectory._optimizers import AdamRule, Rule, SGDRule
from influencekit.training.trajectory._recorder import (
    PlainRecorder,
    TrajectoryRecorder,
    record_trajectory,
    recorded_trajectory,
)
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._second_order import Jets
from influencekit.training.trajectory._step_loss import CURVATURES
from influencekit.training.trajectory._sweep import StepInfluence, StepScores, Sweep
from influencekit.training.trajectory._trajectory import Trajectory

__all__ = [
    "CURVATURES",
    "AdamRule",
    "ErrorProxy",
    "FinitePush",
    "Jets",
    "PlainRecorder",
    "Replay",
    "Rule",
    "SGDRule",
    "StepInfluence",
    "StepScores",
    "Sweep",
    "Trajectory",
    "TrajectoryRecorder",
    "record_trajectory",
    "recorded_trajectory",
]
