"""Whether a model is made of trees."""

from __future__ import annotations

from typing import Any

__all__ = ["has_trees"]

#: Names of classes that tree models inherit from, so that their libraries need not be installed.
_TREES = (
    "BaseDecisionTree",
    "BaseForest",
    "BaseGradientBoosting",
    "BaseHistGradientBoosting",
    "XGBModel",
    "LGBMModel",
)


def has_trees(model: Any) -> bool:
    """Whether a model is made of trees, alone or at the end of Pipelines and searches.

    Parameters
    ----------
    model : object

    Returns
    -------
    bool
    """
    while not isinstance(model, type):
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps"):
            model = model.steps[-1][1]
        elif type(model).__name__ == "FrozenEstimator":
            model = model.estimator
        else:
            break
    return any(kind.__name__ in _TREES for kind in type(model).__mro__)
