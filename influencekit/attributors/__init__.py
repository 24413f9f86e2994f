"""Attribution methods, one per file."""

from influencekit.attributors._trak import TRAK
from influencekit.attributors.along_the_run._adamw_influence import AdamWInfluence
from influencekit.attributors.along_the_run._dvemb import DVEmb
from influencekit.attributors.along_the_run._in_run_shapley import InRunShapley
from influencekit.attributors.along_the_run._less import LESS
from influencekit.attributors.along_the_run._run_average import RunAverage
from influencekit.attributors.along_the_run._sgd_influence import SGDInfluence
from influencekit.attributors.baselines._loss_baseline import LossBaseline
from influencekit.attributors.baselines._random_baseline import RandomBaseline
from influencekit.attributors.first_order._grad_cos import GradCos
from influencekit.attributors.first_order._grad_dot import GradDot
from influencekit.attributors.first_order._tracin import TracIn
from influencekit.attributors.further._further_training import FurtherTraining
from influencekit.attributors.influence._influence_function import InfluenceFunction
from influencekit.attributors.posterior._subset_posterior import SubsetPosterior
from influencekit.attributors.trees._tree_influence import TreeInfluence

__all__ = [
    "LESS",
    "TRAK",
    "AdamWInfluence",
    "DVEmb",
    "FurtherTraining",
    "GradCos",
    "GradDot",
    "InRunShapley",
    "InfluenceFunction",
    "LossBaseline",
    "RandomBaseline",
    "RunAverage",
    "SGDInfluence",
    "SubsetPosterior",
    "TracIn",
    "TreeInfluence",
]
