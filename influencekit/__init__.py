"""Training-data attribution for scikit-learn and torch."""

from influencekit._fitted import DampedFitted, Fitted
from influencekit._version import __version__
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
from influencekit.base import BaseAttributor
from influencekit.groups._group_attributor import GroupAttributor
from influencekit.index._attribution_index import AttributionIndex
from influencekit.metrics._lds import linear_datamodeling_score
from influencekit.models._task import Task, as_task
from influencekit.removal._diagnostics import influence_diagnostics
from influencekit.selection._compare import compare
from influencekit.selection._lds_search import LDSSearch
from influencekit.selection._scorer import lds_scorer
from influencekit.selection._surrogate import SurrogateLambdaSearchCV
from influencekit.selection.study._sensitivity import SensitivityStudy
from influencekit.training.further._training import Training
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.training.subsets._subset_outputs import SubsetOutputs

__all__ = [
    "LESS",
    "TRAK",
    "AdamWInfluence",
    "AttributionIndex",
    "BaseAttributor",
    "DVEmb",
    "DampedFitted",
    "Fitted",
    "FurtherTraining",
    "GradCos",
    "GradDot",
    "GroupAttributor",
    "InRunShapley",
    "InfluenceFunction",
    "LDSSearch",
    "LossBaseline",
    "RandomBaseline",
    "RunAverage",
    "SGDInfluence",
    "SensitivityStudy",
    "SubsetOutputs",
    "SubsetPosterior",
    "SurrogateLambdaSearchCV",
    "Task",
    "TracIn",
    "Training",
    "TreeInfluence",
    "__version__",
    "as_task",
    "compare",
    "influence_diagnostics",
    "lds_scorer",
    "linear_datamodeling_score",
    "retrain_on_subsets",
]
