"""A retrained model's outputs at the queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data import make_examples
from influencekit.models import Task, as_task, resolve_output

__all__ = ["model_outputs", "task_outputs", "unanswered"]

BATCH_SIZE = 1024


def model_outputs(model: Any, X_query: Any, y_query: Any, output: Any) -> np.ndarray:
    """Outputs of a fitted model at the queries.

    Parameters
    ----------
    model : fitted model
        Anything that :func:`~influencekit.models.as_task` takes.
    X_query, y_query : array-like
    output : str or callable

    Returns
    -------
    ndarray of shape (n_query,), float64
    """
    task = as_task(model)
    examples = make_examples(task, X_query, y_query, require_y=False, name="X_query")
    return task_outputs(task, examples, output)


def task_outputs(task: Task, examples: Any, output: Any) -> np.ndarray:
    """Outputs of a task at ready-made examples, (n_query,) float64.

    NaN where the model's natural outputs are not finite, whatever the function makes of them.
    """
    function = resolve_output(task, output, has_targets=examples.targets is not None)
    parts = []
    with torch.no_grad():
        for batch in examples.batches(BATCH_SIZE):
            outputs = task.forward(batch.inputs)
            values = function(outputs, batch.targets).detach().double()
            values = values.reshape(len(values), -1)
            if len(values) == len(outputs):
                values[unanswered(outputs)] = torch.nan
            parts.append(values.cpu())
    values = torch.cat(parts)
    if values.shape[1:] != (1,):
        raise ValueError(
            f"output: the function returned {tuple(values.shape)} values for "
            f"{examples.n_examples} queries; accepted is one number a query, shape (n,)."
        )
    return values[:, 0].numpy()


def unanswered(outputs: Tensor) -> Tensor:
    """Examples at which a model has no finite natural output, (n,) bool.

    Minus infinity for some classes is an answer, their probability is 0; but something must be
    finite, and nothing NaN or plus infinity.  A function of the outputs need not show it: the
    position of the largest of several NaN is a number.

    Parameters
    ----------
    outputs : Tensor of shape (n, ..., n_outputs)
    """
    largest = outputs.detach().amax(-1)  # NaN where any is NaN
    return ~torch.isfinite(largest).reshape(len(outputs), -1).all(dim=1)
