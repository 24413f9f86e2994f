"""Values of training rows from retraining, from bootstraps and from neighbors, as attributors."""

from influencekit.values._banzhaf import Banzhaf
from influencekit.values._beta_shapley import BetaShapley
from influencekit.values._data_oob import DataOOB
from influencekit.values._datamodel import Datamodel
from influencekit.values._knn_shapley import KNNShapley
from influencekit.values._leave_one_out import LeaveOneOut
from influencekit.values._shapley import Shapley

__all__ = [
    "Banzhaf",
    "BetaShapley",
    "DataOOB",
    "Datamodel",
    "KNNShapley",
    "LeaveOneOut",
    "Shapley",
]
