"""Applications of scores: wrong labels, pruning, removal curves, fairness gaps."""

from influencekit.applications._counterfactual import fairness_gap, group_counterfactual
from influencekit.applications._horizon_search import HorizonSearchCV
from influencekit.applications._look_ahead import LookAheadSelector
from influencekit.applications._noisy_labels import NoisyLabelDetector
from influencekit.applications._pruner import DatasetPruner
from influencekit.applications._removal import removal_curve
from influencekit.applications._score_then_retrain import score_then_retrain

__all__ = [
    "DatasetPruner",
    "HorizonSearchCV",
    "LookAheadSelector",
    "NoisyLabelDetector",
    "fairness_gap",
    "group_counterfactual",
    "removal_curve",
    "score_then_retrain",
]
