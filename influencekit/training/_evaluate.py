"""A retrained model's outputs at the queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from influencekit.data import make_examples
from influencekit.models import Task, as_task, resolve_output

__all__ = ["model_outputs", "task_outputs"]

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
    """Outputs of a task at ready-made examples, (n_query,) float64."""
    function = resolve_output(task, output, has_targets=examples.targets is not None)
    parts = []
    with torch.no_grad():
        for batch in examples.batches(BATCH_SIZE):
            values = function(task.forward(batch.inputs), batch.targets)
            parts.append(values.detach().double().reshape(len(values), -1).cpu())
    values = torch.cat(parts)
    if values.shape[1:] != (1,):
        raise ValueError(
            f"output: the function returned {tuple(values.shape)} values for "
            f"{examples.n_examples} queries; accepted is one number a query, shape (n,)."
        )
    return values[:, 0].numpy()
