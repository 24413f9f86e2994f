"""Training runs that are recorded, replayed and differentiated."""

from influencekit.training.trajectory._error_proxy import ErrorProxy
from influencekit.training.trajectory._finite import FinitePush
from influencekit.training.trajectory._jets import Jets
from influencekit.training.trajectory._products import CURVATURES
from influencekit.training.trajectory._recorder import (
    PlainRecorder,
    TrajectoryRecorder,
    record_trajectory,
    recorded_trajectory,
)
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._rules import AdamRule, Rule, SGDRule
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
