"""CalibratedClassifierCV as the ensemble of the classifiers inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, TaskList, as_task, refuse_loss
from influencekit.models.adapters._held_out_rows import rows_mask
from influencekit.models.adapters._wrappers import behind_steps
from influencekit.models.adapters.meta._known import check_known

__all__ = ["FoldRows", "calibrated_task", "members_of", "members_or_one"]


@as_task.register(CalibratedClassifierCV)
def calibrated_task(model: CalibratedClassifierCV, loss: Any = None) -> Task:
    """Task of the classifier inside, if there is only one.

    The calibration, a function of one score, is left out: scores explain the classifier itself.

    Parameters
    ----------
    model : CalibratedClassifierCV
    loss : None

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If there are several: an attributor's ``fit`` takes them as an ensemble.
    """
    refuse_loss(model, loss)
    check_known(model, [model.estimator])
    if _is_ensemble(model):
        raise UnsupportedModelError(
            "model: this CalibratedClassifierCV holds several classifiers, each fitted on a part "
            "of the rows, which are not one model. An attributor's fit takes them as an ensemble; "
            "here, fit it with ensemble=False."
        )
    check_is_fitted(model)
    return _tasks(model)[0]


def _is_ensemble(model: CalibratedClassifierCV) -> bool:
    frozen = isinstance(model.estimator, FrozenEstimator)
    return not frozen if isinstance(model.ensemble, str) else bool(model.ensemble)


def members_of(model: Any) -> TaskList | None:
    """The classifiers inside a CalibratedClassifierCV that has several; else None.

    Parameters
    ----------
    model : object
        May be a Pipeline that ends in one.

    Returns
    -------
    TaskList or None
    """
    if isinstance(model, Pipeline):
        found = members_of(model.steps[-1][1])
        if found is None:
            return None
        return TaskList(behind_steps(model, partial(_given, task)) for task in found)
    if not isinstance(model, CalibratedClassifierCV) or not _is_ensemble(model):
        return None
    check_known(model, [model.estimator])
    check_is_fitted(model)
    return TaskList(_tasks(model))


def members_or_one(model: Any, task_of: Callable[[Any], Task]) -> Task | TaskList:
    """The classifiers inside a CalibratedClassifierCV that has several; else the model's Task.

    Parameters
    ----------
    model : object
    task_of : callable
        How a method reads a model; one that needs no gradients may also take a
        CalibratedClassifierCV whose classifiers have none.

    Returns
    -------
    Task or TaskList
    """
    try:
        several = members_of(model)
    except UnsupportedModelError as error:
        try:
            return task_of(model)
        except UnsupportedModelError:
            raise error from None
    return several or task_of(model)


def _given(task: Task, _model: Any) -> Task:
    return task


def _tasks(model: CalibratedClassifierCV) -> list[Task]:
    name = type(model).__name__
    inner = [one.estimator for one in model.calibrated_classifiers_]
    tasks = []
    for i, one in enumerate(inner):
        task = as_task(one.estimator if isinstance(one, FrozenEstimator) else one)
        if _is_ensemble(model) and not isinstance(model.estimator, FrozenEstimator):
            if task.training_rows is not None:
                raise UnsupportedModelError(
                    f"model: the classifiers of this {name} held out rows for validation. Fit it "
                    "with early_stopping=False."
                )
            task = dataclasses.replace(task, training_rows=FoldRows(_splitter(model), i))
        tasks.append(dataclasses.replace(task, name=f"{name}({task.name})"))
    return tasks


def _splitter(model: CalibratedClassifierCV) -> Any:
    if getattr(model.cv, "shuffle", False) or hasattr(model.cv, "test_size"):
        _check_seeded(model.cv.random_state)
    if isinstance(model.cv, Iterable) and iter(model.cv) is model.cv:
        raise UnsupportedModelError(
            "model: its cv was an iterator of splits, which is used up. Give a list of splits."
        )
    return model.cv


def _check_seeded(random_state: Any) -> None:
    """Refuse folds that cannot be drawn again."""
    if not isinstance(random_state, (int, np.integer)):
        raise UnsupportedModelError(
            "model: the folds of this CalibratedClassifierCV were drawn without an integer seed, "
            "so the rows that each classifier learned from are not known. Fit it again with "
            "cv=StratifiedKFold(5, shuffle=True, random_state=0), or without shuffle."
        )


class FoldRows:
    """The rows that one fold's classifier learned from.

    Parameters
    ----------
    cv : int, splitter, list of splits or None
        As the model was given it.
    fold : int
    """

    def __init__(self, cv: Any, fold: int):
        self.cv = cv
        self.fold = fold

    def __call__(self, _X: Any, y: Any) -> np.ndarray:
        """Mask (n,) of the training rows."""
        y = np.asarray(y)
        y = y.argmax(1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
        splits = check_cv(self.cv, y, classifier=True).split(np.zeros((len(y), 1)), y)
        return rows_mask(list(splits)[self.fold][0], len(y))
