"""A model trained again on subsets of its training rows."""

from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.training.subsets._subset_outputs import SubsetOutputs

__all__ = ["SubsetOutputs", "retrain_on_subsets"]
