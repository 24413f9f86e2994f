"""What people do with scores: wrong labels, pruning, removal curves, fairness gaps."""

from influencekit.applications._counterfactual import (
    GroupCounterfactual,
    fairness_gap,
    group_counterfactual,
)
from influencekit.applications._look_ahead import LookAheadSelector
from influencekit.applications._noisy_labels import NoisyLabelDetector
from influencekit.applications._pruner import DatasetPruner
from influencekit.applications._removal import RemovalCurve, removal_curve
from influencekit.applications._score_then_retrain import RetrainedOnHelpful, score_then_retrain

__all__ = [
    "DatasetPruner",
    "GroupCounterfactual",
    "LookAheadSelector",
    "NoisyLabelDetector",
    "RemovalCurve",
    "RetrainedOnHelpful",
    "fairness_gap",
    "group_counterfactual",
    "removal_curve",
    "score_then_retrain",
]
