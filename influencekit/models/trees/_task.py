"""Tasks of tree models: the structure is the transform, the leaf values are the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.pipeline import Pipeline

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._has_trees import has_trees
from influencekit.models._task import Task, as_task
from influencekit.models.adapters._held_out_rows import SplitRows, check_seed
from influencekit.models.adapters._wrappers import BaseSearchCV, behind_steps, best_of
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import SquaredError
from influencekit.models.snapshot._own_predictions import check_predictions
from influencekit.models.trees._ensemble import AveragedTrees, LeafSum, TreeEnsemble, other_loss
from influencekit.models.trees._forests import read_forest
from influencekit.models.trees._gradient_boosting import read_gradient_boosting
from influencekit.models.trees._hist_gradient_boosting import read_hist_gradient_boosting
from influencekit.models.trees._lightgbm import read_lightgbm
from influencekit.models.trees._loss import ShareCrossEntropy
from influencekit.models.trees._sampling import RowsOfCount
from influencekit.models.trees._xgboost import read_xgboost
from influencekit.utils.validation import hist_rows, hist_seed

__all__ = ["predicting_task", "tree_task", "trees_of"]

#: Reader of each family, by the name of one of its classes.
_READERS: dict[str, Callable[[Any], TreeEnsemble]] = {
    "BaseDecisionTree": read_forest,
    "BaseForest": read_forest,
    "BaseGradientBoosting": read_gradient_boosting,
    "BaseHistGradientBoosting": read_hist_gradient_boosting,
    "XGBModel": read_xgboost,
    "LGBMModel": read_lightgbm,
}


def tree_task(model: Any) -> Task:
    """Task of a fitted tree model, alone or at the end of a Pipeline or a search.

    Its inputs are the leaves of the rows, and its parameters are the leaf values: with fixed
    structure, the model is linear in them.

    Parameters
    ----------
    model : fitted tree model, or a Task that this function made

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If it is not a tree model, or of a kind that is not supported.
    """
    if isinstance(model, Task):
        if not isinstance(model.module, LeafSum):
            raise _no_trees(model.name)
        return model
    if isinstance(model, Pipeline):
        return behind_steps(model, tree_task)
    if isinstance(model, BaseSearchCV):
        return tree_task(best_of(model))
    if isinstance(model, FrozenEstimator):
        return tree_task(model.estimator)
    for kind in type(model).__mro__:
        if kind.__name__ in _READERS and hasattr(model, "predict"):
            check_predictions(model)
            return _task(model, _READERS[kind.__name__](model))
    raise _no_trees(type(model).__name__)


def trees_of(task: Task) -> Any:
    """The trees that :func:`tree_task` read.

    Parameters
    ----------
    task : Task

    Returns
    -------
    BoostedTrees or AveragedTrees
    """
    return task.module.trees


def predicting_task(model: Any) -> Task:
    """Task from which a model's outputs are read: for trees, or from :func:`as_task`.

    Parameters
    ----------
    model : fitted model or Task

    Returns
    -------
    Task
    """
    return tree_task(model) if has_trees(model) else as_task(model)


def _no_trees(name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"model: got {name}, which is not a tree model that influencekit supports. Accepted: "
        f"fitted "
        "DecisionTree, ExtraTree, RandomForest, ExtraTrees, GradientBoosting and "
        "HistGradientBoosting models of scikit-learn, XGBClassifier, XGBRegressor, "
        "LGBMClassifier, LGBMRegressor, and Pipelines and searches that end in one. For models "
        "with gradients use InfluenceFunction."
    )


def _task(model: Any, trees: TreeEnsemble) -> Task:
    if trees.loss == "other":
        raise other_loss(model, trees.refusal)
    classes = getattr(model, "classes_", None)
    return Task(
        module=LeafSum(trees).eval(),
        loss=_loss(trees, classes is not None),
        classes=classes,
        transform=trees.leaves,
        class_weight=_class_weight(model, classes),
        training_rows=_training_rows(model),
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=_feature_names(model),
    )


def _loss(trees: TreeEnsemble, classifies: bool) -> OutputLoss:
    if trees.loss == "probability":
        return ShareCrossEntropy(trees.n_trees)
    if classifies:
        return BinaryCrossEntropy() if trees.n_outputs == 1 else CrossEntropy()
    return SquaredError(1.0 if isinstance(trees, AveragedTrees) else 0.5)


def _feature_names(model: Any) -> Any:
    """Column names, if the model was fitted on a DataFrame; LightGBM makes up its own."""
    if type(model).__module__.startswith("lightgbm."):
        return None
    return getattr(model, "feature_names_in_", None)


def _class_weight(model: Any, classes: Any) -> Any:
    """Weight of each class, in the form that a Task takes."""
    given = getattr(model, "class_weight", None)
    positive = getattr(model, "scale_pos_weight", None)
    if classes is None or (given is None and positive in (None, 1)):
        return None
    if isinstance(given, dict):
        # HistGradientBoosting encodes its classes before it looks up their weights
        labels = range(len(classes)) if hasattr(model, "do_early_stopping_") else classes.tolist()
        weights = [float(given.get(label, 1.0)) for label in labels]
        return torch.tensor(weights, dtype=torch.float64)
    if given is None and positive is not None:
        return torch.tensor([1.0, float(positive)], dtype=torch.float64)
    return "balanced"


def _training_rows(model: Any) -> Callable[[Any, Any], np.ndarray] | None:
    """Rows that early stopping left for training."""
    kind, share = type(model), getattr(model, "validation_fraction", None)
    splitter: Any = StratifiedShuffleSplit if hasattr(model, "classes_") else ShuffleSplit
    if getattr(model, "do_early_stopping_", False) and share is not None:
        split = SplitRows(splitter(test_size=share, random_state=hist_seed(model)))
        return RowsOfCount(split, hist_rows(model))
    if share is not None and getattr(model, "n_iter_no_change", None) is not None:
        if hasattr(model, "do_early_stopping_"):
            return None
        check_seed(model.random_state, kind.__name__)
        return SplitRows(splitter(test_size=share, random_state=model.random_state))
    return None
