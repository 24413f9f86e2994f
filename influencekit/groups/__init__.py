"""Groups of training examples: how to make them, what they did, and what leaving them out does."""

from influencekit.groups._group_attributor import GroupAttributor
from influencekit.groups._group_size import choose_group_size
from influencekit.groups._groupers import (
    BaseGrouper,
    ClusterGrouper,
    KMeansGrouper,
    LabelGrouper,
    RandomGrouper,
)
from influencekit.groups._leave_group_out import leave_group_out
from influencekit.groups._properties import DemographicParityDifference, EqualizedOddsDifference

__all__ = [
    "BaseGrouper",
    "ClusterGrouper",
    "DemographicParityDifference",
    "EqualizedOddsDifference",
    "GroupAttributor",
    "KMeansGrouper",
    "LabelGrouper",
    "RandomGrouper",
    "choose_group_size",
    "leave_group_out",
]
