"""Tasks of models whose outputs are asked for, and never their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._has_trees import has_trees
from influencekit.models._task import Task, as_task
from influencekit.models.adapters._wrappers import BaseSearchCV, behind_steps, best_of
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import SquaredError

__all__ = ["plain_task"]

#: Smallest probability whose logarithm is taken.
_TINY = 1e-12


def plain_task(model: Any) -> Task:
    """Task of any fitted model, for methods that retrain it or look at its data.

    Models that :func:`~influencekit.as_task` takes are read by it.  Any other estimator of
    scikit-learn's kind is a module without gradients, whose inputs are the rows as they come.

    Parameters
    ----------
    model : fitted model or Task

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If it is not a fitted model with ``predict``.
    """
    if isinstance(model, Pipeline):
        return behind_steps(model, plain_task)
    if isinstance(model, BaseSearchCV):
        return plain_task(best_of(model))
    if isinstance(model, FrozenEstimator):
        return plain_task(model.estimator)
    if has_trees(model):
        return _estimator_task(model)
    try:
        return as_task(model)
    except UnsupportedModelError:
        if isinstance(model, (type, NeuralNet, nn.Module)) or not hasattr(model, "predict"):
            raise
    return _estimator_task(model)


def _estimator_task(model: Any) -> Task:
    check_is_fitted(model)
    module = _EstimatorOutputs(model)
    return Task(
        module=module.eval(),
        loss=module.loss,
        classes=getattr(model, "classes_", None),
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=_text_names(model),
    )


def _text_names(model: Any) -> Any:
    """Column names, where the model was fitted on a DataFrame; LightGBM makes up its own."""
    if type(model).__module__.startswith("lightgbm."):
        return None
    return getattr(model, "feature_names_in_", None)


class _EstimatorOutputs(nn.Module):
    """What an estimator says of rows: log probabilities, decision values or predictions.

    Parameters
    ----------
    estimator : fitted estimator
    """

    def __init__(self, estimator: Any):
        super().__init__()
        self.estimator = estimator
        self.dtype_holder = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    @property
    def loss(self) -> OutputLoss:
        """The loss that its outputs are natural outputs of."""
        if is_regressor(self.estimator):
            return SquaredError(1.0)
        if hasattr(self.estimator, "predict_proba"):
            return CrossEntropy()
        return BinaryCrossEntropy() if len(self.estimator.classes_) == 2 else CrossEntropy()

    def forward(self, rows: Tensor) -> Tensor:
        """Natural outputs (n, n_outputs), without gradients."""
        X, model = self._as_fitted(rows.detach().cpu().numpy()), self.estimator
        if is_regressor(model):
            found = model.predict(X)
        elif hasattr(model, "predict_proba"):
            found = np.log(np.clip(model.predict_proba(X), _TINY, None))
        else:
            found = model.decision_function(X)
        return torch.as_tensor(np.asarray(found, dtype=np.float64)).reshape(len(rows), -1)

    def _as_fitted(self, X: np.ndarray) -> Any:
        """Rows under the column names that the estimator learned, if it did."""
        names = _text_names(self.estimator)
        if names is None:
            return X
        import pandas as pd

        return pd.DataFrame(X, columns=names)
