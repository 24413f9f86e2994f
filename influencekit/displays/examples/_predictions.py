"""What a model predicts for the examples that a display shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from influencekit.data._examples import make_examples
from influencekit.models._predict import has_several_labels, predicted_labels
from influencekit.models._task import Task

__all__ = ["own_predictions"]


@torch.no_grad()
def own_predictions(task: Task, X: Any) -> tuple[NDArray | None, NDArray | None]:
    """Label or value predicted for each row, and the probability of that label.

    Parameters
    ----------
    task : Task
    X : array-like or DataFrame of n rows

    Returns
    -------
    predicted : ndarray of shape (n,) or None
        None for models that predict several values an example.
    probability : ndarray of shape (n,) or None
        None for models without probabilities.
    """
    batches = make_examples(task, X, require_y=False).batches(1024)
    outputs = torch.cat([task.forward(batch.inputs) for batch in batches])
    if outputs.ndim != 2:
        return None, None
    labels = np.asarray(predicted_labels(task, outputs))
    predicted = labels if labels.ndim == 1 else None
    if task.problem_type != "classification" or has_several_labels(task, outputs):
        return predicted, None
    try:
        return predicted, task.loss.predict_proba(outputs).amax(1).double().cpu().numpy()
    except TypeError:  # a loss without probabilities, such as the hinge loss
        return predicted, None
