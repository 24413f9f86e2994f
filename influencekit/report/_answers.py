"""The model's predictions for examples, and which of them to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from influencekit.data._examples import Examples, ExamplesList, each, make_examples
from influencekit.displays.examples._rows import check_rows, take
from influencekit.models._outputs import predicted_targets
from influencekit.models._predict import has_several_labels, predicted_labels
from influencekit.models._task import Task
from influencekit.models.losses._base import class_positions
from influencekit.utils.validation import present

__all__ = ["Answers", "answers", "choose_rows", "predictions"]

_BATCH = 256


@dataclass(frozen=True)
class Answers:
    """Labels, predictions and losses of examples, in their order.

    Attributes
    ----------
    label : ndarray of shape (n, ...) or None
        Labels; None without targets, and for sequences.
    predicted : ndarray of shape (n, ...) or None
        Predictions; None for sequences.
    probability : ndarray of shape (n,) or None
        Probability of the predicted class, if the model defines it.
    loss : ndarray of shape (n,)
        Loss at the target, or at the model's own prediction without targets.
    classifies : bool
        Whether predictions are classes.
    """

    label: NDArray | None
    predicted: NDArray | None
    probability: NDArray | None
    loss: NDArray
    classifies: bool

    @property
    def mistaken(self) -> Any:
        """Whether label and prediction differ; None if there are no classes to compare."""
        if not self.classifies or self.label is None or self.predicted is None:
            return None
        differ: NDArray = np.asarray(self.label != self.predicted)
        return differ.reshape(len(differ), -1).any(axis=1)


@torch.no_grad()
def answers(task: Task, examples: Examples | ExamplesList) -> Answers:
    """Run the model (the first of several) in batches.

    Parameters
    ----------
    task : Task
    examples : Examples or ExamplesList

    Returns
    -------
    Answers
    """
    parts = [_of_batch(task, batch) for batch in each(examples)[0].batches(_BATCH)]
    labels, predicted, probability, loss = (
        None if any(p is None for p in part) else np.concatenate(part)
        for part in zip(*parts, strict=True)
    )
    classifies = task.problem_type == "classification"
    return Answers(labels, predicted, probability, present(loss, "losses"), classifies)


def _of_batch(task: Task, batch: Any) -> tuple:
    outputs, targets = task.forward(batch.inputs), batch.targets
    own = predicted_targets(task, outputs) if targets is None else targets
    loss = task.loss(outputs, own).double().cpu().numpy()
    if outputs.ndim != 2:
        return None, None, None, loss
    label = None if targets is None else _labels(task, targets)
    return label, predicted_labels(task, outputs), _probability(task, outputs), loss


def _labels(task: Task, targets: torch.Tensor) -> NDArray:
    """Raw labels or values from a loss's targets."""
    if task.problem_type == "classification" and not has_several_labels(task, targets):
        positions = class_positions(targets).cpu().numpy()
        return positions if task.classes is None else np.asarray(task.classes)[positions]
    values = targets.cpu().numpy()
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _probability(task: Task, outputs: torch.Tensor) -> NDArray | None:
    if task.problem_type != "classification" or has_several_labels(task, outputs):
        return None
    try:
        return task.loss.predict_proba(outputs).amax(1).double().cpu().numpy()
    except TypeError:  # a loss without probabilities, such as the hinge loss
        return None


def choose_rows(
    rows: ArrayLike | None, n_shown: int, task: Task, found: Answers
) -> tuple[NDArray, str]:
    """Positions of the test examples to show, and the rule that chose them.

    Parameters
    ----------
    rows : array-like of int or None
        Requested positions; None chooses the examples with the highest loss.
    n_shown : int
    task : Task
    found : Answers
        Answers for all test examples.

    Returns
    -------
    rows : ndarray of int
    rule : str

    Raises
    ------
    ValueError
        If positions do not exist, or ``n_shown`` is not a positive integer.
    """
    n_test = len(found.loss)
    if rows is not None:
        return check_rows(rows, n_test), "chosen by hand"
    if not isinstance(n_shown, (int, np.integer)) or isinstance(n_shown, bool) or n_shown < 1:
        raise ValueError(f"n_shown: got {n_shown!r}; accepted are integers of 1 or more.")
    if found.label is None and task.problem_type != "classification" and not found.loss.any():
        return np.arange(min(n_shown, n_test)), "the first ones"
    worst = np.argsort(-found.loss, kind="stable")[:n_shown]
    if found.label is None and found.predicted is not None:
        return worst, "those with the highest loss at the model's own prediction (least sure)"
    return worst, "those with the highest loss, which the model explains worst"


def predictions(
    task: Task, X: Any, rows: NDArray, n_train: int
) -> dict[int, tuple[Any, float | None]]:
    """Predictions of some training examples and their probabilities, by position.

    Parameters
    ----------
    task : Task
    X : object
        Training data as for the model; None gives no predictions.
    rows : ndarray of int
    n_train : int
        Required number of examples.

    Returns
    -------
    dict of int to tuple of object and (float or None)
        The probability is None for models without probabilities.

    Raises
    ------
    ValueError
        If there are more or fewer examples.
    """
    if X is None or not len(rows):
        return {}
    found = answers(task, _examples_at(task, X, rows, n_train))
    if found.predicted is None:
        return {}
    sure = [None] * len(rows) if found.probability is None else found.probability.tolist()
    return dict(zip(rows.tolist(), zip(found.predicted, sure, strict=True), strict=True))


def _examples_at(task: Task, X: Any, rows: NDArray, n_train: int) -> Examples:
    """Examples at some positions; if X has rows, the others are not transformed."""
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    whole = None
    if not hasattr(X, "shape") and not isinstance(X, list):
        whole = make_examples(task, X, require_y=False, name="X_train")
    n = len(X) if isinstance(X, list) else X.shape[0] if whole is None else len(whole)
    if n != n_train:
        raise ValueError(
            f"X_train: got {n:,} examples; accepted are the {n_train:,} that the attributor was "
            "fitted on, in the same order."
        )
    if whole is not None:
        return whole.take(rows)
    some = [X[i] for i in rows] if isinstance(X, list) else take(X, rows)
    return make_examples(task, some, require_y=False, name="X_train")
