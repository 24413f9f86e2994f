"""One model for each class or output: OneVsRestClassifier and MultiOutput models as Tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters.meta._known import check_known
from influencekit.models.adapters.meta._side_by_side import join
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy, BinaryLoss, MarginLoss
from influencekit.models.losses._elementwise import ElementwiseLoss, PoissonLoss, SquaredError

__all__ = ["multi_output_task", "one_vs_rest_task"]


@as_task.register(OneVsRestClassifier)
def one_vs_rest_task(model: OneVsRestClassifier, loss: Any = None) -> Task:
    """Task of a fitted OneVsRestClassifier: the sum of its binary problems.

    Parameters
    ----------
    model : OneVsRestClassifier
        Its ``estimator`` is one that :func:`as_task` reads.
    loss : None

    Returns
    -------
    Task
    """
    refuse_loss(model, loss)
    check_known(model, [model.estimator])
    check_is_fitted(model)
    output_loss, tasks = _binary_columns(model, multilabel=model.multilabel_)
    classes = None if model.multilabel_ else model.classes_
    return _columns_task(model, tasks, output_loss, classes)


@as_task.register(MultiOutputClassifier)
@as_task.register(MultiOutputRegressor)
def multi_output_task(model: Any, loss: Any = None) -> Task:
    """Task of a fitted MultiOutputClassifier or MultiOutputRegressor: the sum of its problems.

    Parameters
    ----------
    model : MultiOutputClassifier or MultiOutputRegressor
        Classifiers with the labels 0 and 1 for every output.
    loss : None

    Returns
    -------
    Task
    """
    refuse_loss(model, loss)
    check_known(model, [model.estimator])
    check_is_fitted(model)
    if isinstance(model, MultiOutputRegressor):
        tasks = [as_task(one) for one in model.estimators_]
        return _columns_task(model, tasks, _value_columns(model, tasks), None)
    for i, one in enumerate(model.estimators_):
        if not np.array_equal(one.classes_, [0, 1]):
            raise UnsupportedModelError(
                f"model: output {i} of this MultiOutputClassifier has the labels "
                f"{list(one.classes_)}; accepted are 0 and 1 for every output. Explain the outputs "
                f"one by one: attributor.fit(model.estimators_[{i}], X, y[:, {i}])."
            )
    output_loss, tasks = _binary_columns(model, multilabel=True)
    return _columns_task(model, tasks, output_loss, None)


def _columns_task(model: Any, tasks: list[Task], loss: OutputLoss, classes: Any) -> Task:
    joined = join(tasks, type(model).__name__)
    return Task(
        module=joined.module,
        loss=loss,
        classes=classes,
        transform=joined.transform,
        penalty=joined.penalty,
        penalty_kind=tasks[0].penalty_kind,
        estimator=model,
        name=f"{type(model).__name__}({tasks[0].name})",
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
        convex=all(task.convex for task in tasks),
    )


def _binary_columns(model: Any, multilabel: bool) -> tuple[OutputLoss, list[Task]]:
    """Loss of all columns together, and the Task of each."""
    name = type(model).__name__
    tasks = []
    for one in model.estimators_:
        if type(one).__name__ == "_ConstantPredictor":
            raise UnsupportedModelError(
                f"model: a class of this {name} holds every row, or none, so that nothing was "
                f"learned for it. Leave its column out."
            )
        tasks.append(as_task(one))
    first = tasks[0].loss
    if not isinstance(first, BinaryLoss):
        raise _unknown_columns(name, tasks[0])
    weights = [_sides(task, name) for task in tasks]
    positive, negative = (_column_weights([w[side] for w in weights]) for side in (1, 0))
    if isinstance(first, MarginLoss):
        joined: BinaryLoss = MarginLoss(first.function, positive, negative, first.probabilities)
        joined.multilabel = multilabel
        return joined, tasks
    return BinaryCrossEntropy(positive, negative, multilabel=multilabel), tasks


def _sides(task: Task, name: str) -> tuple[float, float]:
    """Weights of the targets 0 and 1 in one binary problem."""
    if isinstance(task.class_weight, str):
        raise UnsupportedModelError(
            f"model: {name} of models with class_weight='balanced' weights each of its problems by "
            "label counts that it does not store. Give class_weight as a dict: {0: 1.0, 1: 2.0}."
        )
    own = [1.0, 1.0] if task.class_weight is None else task.class_weight.tolist()
    loss: Any = task.loss
    for side, weight in ((0, loss.negative_weight), (1, loss.positive_weight)):
        own[side] *= 1.0 if weight is None else float(weight)
    return own[0], own[1]


def _column_weights(weights: Sequence[float]) -> Tensor | None:
    if all(weight == 1.0 for weight in weights):
        return None
    return torch.tensor(weights, dtype=torch.float64)


def _value_columns(model: Any, tasks: Sequence[Task]) -> OutputLoss:
    known = (SquaredError, PoissonLoss, ElementwiseLoss)
    first = tasks[0].loss
    if not isinstance(first, known) and type(first).__name__ != "DevianceLoss":
        raise _unknown_columns(type(model).__name__, tasks[0])
    return first


def _unknown_columns(name: str, task: Task) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"model: {name} of {task.name} is not known. Explain its outputs one by one: "
        f"attributor.fit(model.estimators_[0], X, y_of_output)."
    )
