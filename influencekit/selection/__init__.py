"""Choice of hyperparameters, with and without retraining."""

from influencekit.selection._compare import compare
from influencekit.selection._lds_search import LDSSearch
from influencekit.selection._scorer import lds_scorer
from influencekit.selection._surrogate import SurrogateLambdaSearchCV
from influencekit.selection.study._sensitivity import SensitivityStudy

__all__ = [
    "LDSSearch",
    "SensitivityStudy",
    "SurrogateLambdaSearchCV",
    "compare",
    "lds_scorer",
]
