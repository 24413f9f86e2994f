"""What people do with scores: wrong labels, pruning, removal curves, fairness gaps."""

from influencekit.applications._noisy_labels import NoisyLabelDetector

__all__ = ["NoisyLabelDetector"]
