"""Models around models: Pipeline, fitted searches, FrozenEstimator."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task
from influencekit.models.adapters._learned_from import learned_from

__all__ = [
    "BaseSearchCV",
    "Steps",
    "behind_steps",
    "best_of",
    "check_step",
    "frozen_task",
    "pipeline_task",
    "search_task",
]

BaseSearchCV = GridSearchCV.__base__  # of grid, randomized and halving searches


class Steps:
    """Fitted transformers applied one after another.

    Parameters
    ----------
    transformers : list
        Objects with ``transform``, or callables.
    """

    def __init__(self, transformers: list[Any]):
        self.transformers = transformers

    def __call__(self, X: Any) -> Any:
        """Transformed X, in whatever container the last step returns."""
        for step in self.transformers:
            X = _applied(step, X)
        return X

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of the last step's columns, if every step gives them."""
        for step in self.transformers:
            input_features = step.get_feature_names_out(input_features)
        return input_features

    def of_training_rows(self, X: Any, y: Any) -> Any:
        """Training rows as the last step learned from them; see :func:`learned_from`."""
        for step in self.transformers:
            if isinstance(step, Steps):
                X = step.of_training_rows(X, y)
            elif hasattr(step, "transform"):
                X = learned_from(step, X, y, _applied(step, X))
            else:
                X = step(X)
        return X


def _applied(step: Any, X: Any) -> Any:
    try:
        return step.transform(X) if hasattr(step, "transform") else step(X)
    except NotFittedError as error:
        raise _unfitted(step) from error


def check_step(step: Any) -> None:
    """Refuse a step of a Pipeline that is clearly not fitted.

    A custom transformer need not store anything in its fit, so only its ``transform`` can show
    whether something is missing.
    """
    if type(step).__module__.partition(".")[0] != "sklearn":
        return
    try:
        check_is_fitted(step)
    except NotFittedError as error:
        raise _unfitted(step) from error


def _unfitted(step: Any) -> NotFittedError:
    return NotFittedError(
        f"model: the step {type(step).__name__} of the Pipeline is not fitted. Give a fitted "
        "Pipeline: call its 'fit' with the training data first (a clone is not fitted)."
    )


@as_task.register(Pipeline)
def pipeline_task(model: Pipeline, loss: Any = None) -> Task:
    """Task of a fitted Pipeline: the last step, after the transforms of the other steps.

    The Task keeps a copy of the fitted transformers.

    Parameters
    ----------
    model : Pipeline
    loss : callable, default=None
        Passed to the last step.

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If the last step is not a model, or a step resamples rows.
    """
    return behind_steps(model, lambda last: as_task(last, loss))


def behind_steps(model: Pipeline, task_of: Callable[[Any], Task]) -> Task:
    """Task of a Pipeline's last step, after the transforms of the other steps.

    Parameters
    ----------
    model : Pipeline
    task_of : callable
        Function that makes the Task of the last step.

    Returns
    -------
    Task
    """
    last_name, last = model.steps[-1]
    if last is None or isinstance(last, str):
        raise UnsupportedModelError(
            f"model: the last step {last_name!r} of the Pipeline is {last!r}; accepted is a model."
        )
    steps = [step for _, step in model.steps[:-1] if step is not None and step != "passthrough"]
    for step in steps:
        if hasattr(step, "fit_resample"):
            raise UnsupportedModelError(
                f"model: the step {type(step).__name__} resamples rows, so the model's training "
                "examples are not the rows given to fit. Resample first, then fit a Pipeline of "
                "the other steps."
            )
        check_step(step)
    task = task_of(last)
    if not steps:
        return task
    inner = [] if task.transform is None else [task.transform]
    return dataclasses.replace(
        task,
        transform=Steps([*copy.deepcopy(steps), *inner]),
        name=f"Pipeline({task.name})",
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
    )


@as_task.register(BaseSearchCV)
def search_task(model: Any, loss: Any = None) -> Task:
    """Task of a fitted search: that of its ``best_estimator_``.

    Parameters
    ----------
    model : GridSearchCV, RandomizedSearchCV or a halving search
    loss : callable, default=None
        Passed to the best estimator.

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If it was made with ``refit=False``.
    """
    return as_task(best_of(model), loss)


def best_of(model: Any) -> Any:
    """The fitted model kept by a search.

    Parameters
    ----------
    model : GridSearchCV, RandomizedSearchCV or a halving search

    Returns
    -------
    estimator
    """
    if not model.refit:
        raise UnsupportedModelError(
            f"model: {type(model).__name__}(refit=False) does not keep a fitted model. "
            "Fit it with refit=True, or give the model that you fitted from best_params_."
        )
    check_is_fitted(model)
    return model.best_estimator_


@as_task.register(FrozenEstimator)
def frozen_task(model: FrozenEstimator, loss: Any = None) -> Task:
    """Task of the estimator inside a FrozenEstimator.

    Parameters
    ----------
    model : FrozenEstimator
    loss : callable, default=None
        Passed to the estimator.

    Returns
    -------
    Task
    """
    return as_task(model.estimator, loss)
