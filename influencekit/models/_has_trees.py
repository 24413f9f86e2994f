"""Whether a model is made of trees."""

from __future__ import annotations

from typing import Any

from sklearn.compose import TransformedTargetRegressor

__all__ = ["boosts_trees", "has_trees", "inner_model", "learns_units", "votes_of"]

#: Names of classes that boosted tree models inherit from, so that no library need be installed.
_BOOSTED = ("BaseGradientBoosting", "BaseHistGradientBoosting", "XGBModel", "LGBMModel")

#: The same for single trees and averages of trees.
_AVERAGED = ("BaseDecisionTree", "BaseForest")


def has_trees(model: Any) -> bool:
    """Whether a model is made of trees, alone or at the end of Pipelines and searches.

    Parameters
    ----------
    model : object

    Returns
    -------
    bool
    """
    return _is_among(inner_model(model), _AVERAGED + _BOOSTED)


def boosts_trees(model: Any) -> bool:
    """Whether a model adds up trees, whose loss for numbers is half the squared error.

    Parameters
    ----------
    model : object

    Returns
    -------
    bool
    """
    return _is_among(inner_model(model), _BOOSTED)


def votes_of(model: Any) -> int:
    """Number of votes whose shares a classifier's probabilities are; 0 where they are not.

    Parameters
    ----------
    model : object
        A forest or tree, or a classifier by neighbors.

    Returns
    -------
    int
    """
    if _is_among(model, ("BaseForest",)):
        return model.n_estimators
    if _is_among(model, ("BaseDecisionTree",)):
        return 1
    return model.n_neighbors if _is_among(model, ("KNeighborsClassifier",)) else 0


def inner_model(model: Any) -> Any:
    """The model at the end of Pipelines, searches and frozen estimators, fitted or not.

    Parameters
    ----------
    model : object

    Returns
    -------
    object
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
    return model


def learns_units(model: Any) -> bool:
    """Whether a model learns the transform of its targets from them, and with it its loss's unit.

    Losses of models trained on different rows are then no numbers of one kind; squared errors are.

    Parameters
    ----------
    model : estimator

    Returns
    -------
    bool
    """
    last = inner_model(model)
    return isinstance(last, TransformedTargetRegressor) and last.transformer is not None


def _is_among(model: Any, names: tuple[str, ...]) -> bool:
    kind = model if isinstance(model, type) else type(model)
    return any(parent.__name__ in names for parent in kind.__mro__)
