"""Training models anew: on subsets, many at once, with results that are kept."""

from influencekit.training._retrain import retrain_on_subsets
from influencekit.training._subsets import SubsetOutputs

__all__ = ["SubsetOutputs", "retrain_on_subsets"]
