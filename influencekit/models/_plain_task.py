"""Tasks of models whose outputs are asked for, and never their gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier, is_regressor
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

__all__ = ["CategoryCodes", "plain_task"]

#: Smallest probability whose logarithm is taken.
_TINY = 1e-12


def plain_task(model: Any, categories: bool = False) -> Task:
    """Task of any fitted model, for methods that retrain it or look at its data.

    Models that :func:`~influencekit.as_task` takes are read by it.  Any other estimator of
    scikit-learn's kind is a module without gradients, whose inputs are the rows as they come.

    Parameters
    ----------
    model : fitted model or Task
    categories : bool, default=False
        Whether columns of categories may be read as the numbers of their categories, which tell
        rows apart but have no order.

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If it is not a fitted model with ``predict``, or learns without targets.
    """
    if isinstance(model, Pipeline):
        return behind_steps(model, partial(plain_task, categories=categories))
    if isinstance(model, BaseSearchCV):
        return plain_task(best_of(model), categories)
    if isinstance(model, FrozenEstimator):
        return plain_task(model.estimator, categories)
    if has_trees(model):
        return _estimator_task(model, CategoryCodes() if categories else None)
    try:
        return as_task(model)
    except UnsupportedModelError:
        if isinstance(model, (type, NeuralNet, nn.Module)) or not hasattr(model, "predict"):
            raise
    return _estimator_task(model)


def _estimator_task(model: Any, codes: CategoryCodes | None = None) -> Task:
    check_is_fitted(model)
    if not (is_classifier(model) or is_regressor(model)):
        raise UnsupportedModelError(
            f"model: got {type(model).__name__}, which is neither a classifier nor a regressor, so "
            f"that no target says how good its outputs are. Accepted are classifiers and "
            f"regressors."
        )
    module = _EstimatorOutputs(model, codes)
    return Task(
        module=module.eval(),
        loss=module.loss,
        classes=getattr(model, "classes_", None),
        transform=codes if _takes_categories(model) else None,
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=_text_names(model),
    )


def _takes_categories(model: Any) -> bool:
    """Whether trees were fitted to columns of categories as they are."""
    if getattr(model, "enable_categorical", False):  # XGBoost
        return True
    if getattr(getattr(model, "booster_", None), "pandas_categorical", None):  # LightGBM
        return True
    known = getattr(model, "is_categorical_", None)
    return known is not None and bool(np.any(known))


class CategoryCodes:
    """Columns of categories as numbers, and back; all else stays as it is."""

    def __init__(self) -> None:
        self.dtypes: Any = None

    def __call__(self, X: Any) -> Any:
        """Frame with the number of each category, -1 for none; its first frame sets them."""
        if not hasattr(X, "dtypes") or not hasattr(X, "assign"):
            return X
        if self.dtypes is None:
            self.dtypes = X.dtypes
        kinds = self._kinds(X.columns)
        codes = {name: X[name].astype(kind).cat.codes.to_numpy() for name, kind in kinds.items()}
        return X.assign(**codes) if codes else X

    def frame(self, rows: Any) -> Any:
        """The categories of a frame of their numbers."""
        import pandas as pd

        kinds = self._kinds(rows.columns) if hasattr(rows, "columns") else {}
        return rows.assign(
            **{
                name: pd.Categorical.from_codes(rows[name].astype(int), dtype=kind)
                for name, kind in kinds.items()
            }
        )

    def _kinds(self, names: Any) -> dict[str, Any]:
        kinds = {} if self.dtypes is None else self.dtypes.to_dict()
        return {name: kinds[name] for name in names if hasattr(kinds.get(name), "categories")}


def _text_names(model: Any) -> Any:
    """Column names, where the model was fitted on a DataFrame; LightGBM makes up its own."""
    if type(model).__module__.startswith("lightgbm."):
        return None
    return getattr(model, "feature_names_in_", None)


def _decides_alone(model: Any) -> bool:
    """Whether a classifier has decisions but no probabilities."""
    return not hasattr(model, "predict_proba") and hasattr(model, "decision_function")


class _EstimatorOutputs(nn.Module):
    """What an estimator says of rows: log probabilities, decision values or predictions.

    Parameters
    ----------
    estimator : fitted estimator
    codes : CategoryCodes or None, default=None
    """

    def __init__(self, estimator: Any, codes: CategoryCodes | None = None):
        super().__init__()
        self.estimator = estimator
        self.codes = codes
        self.dtype_holder = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    @property
    def loss(self) -> OutputLoss:
        """The loss that its outputs are natural outputs of."""
        if is_regressor(self.estimator):
            return SquaredError(1.0)
        if not _decides_alone(self.estimator):
            return CrossEntropy()
        return BinaryCrossEntropy() if len(self.estimator.classes_) == 2 else CrossEntropy()

    def forward(self, rows: Tensor) -> Tensor:
        """Natural outputs (n, n_outputs), without gradients."""
        X, model = self._as_fitted(rows.detach().cpu().numpy()), self.estimator
        if is_regressor(model):
            found = model.predict(X)
        elif hasattr(model, "predict_proba"):
            found = np.log(np.clip(model.predict_proba(X), _TINY, None))
        elif hasattr(model, "decision_function"):
            found = model.decision_function(X)
        else:  # a vote: its label is certain
            said = np.asarray(model.predict(X))[:, None] == model.classes_
            found = np.log(np.clip(said, _TINY, 1))
        return torch.as_tensor(np.asarray(found, dtype=np.float64)).reshape(len(rows), -1)

    def _as_fitted(self, X: np.ndarray) -> Any:
        """Rows under the column names that the estimator learned, if it did."""
        names = _text_names(self.estimator)
        if names is None:
            return X
        import pandas as pd

        rows = pd.DataFrame(X, columns=names)
        return rows if self.codes is None else self.codes.frame(rows)
