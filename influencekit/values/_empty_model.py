"""What a model says that learned from no row, or lacks a class: the best constant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data._examples import make_examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._estimator_outputs import says_labels
from influencekit.models._has_trees import learns_units
from influencekit.models._outputs import resolve_output
from influencekit.models._plain_task import plain_task
from influencekit.models._task import Task
from influencekit.models.losses._base import class_positions
from influencekit.models.trees._loss import ShareCrossEntropy
from influencekit.models.trees._task import predicting_task
from influencekit.utils.validation import present

__all__ = ["EmptyModel"]


@dataclass
class EmptyModel:
    """The constant prediction of least training loss, at the queries.

    Parameters
    ----------
    model : fitted model
    X, y, X_query, y_query : array-like
    output : str or callable
    """

    model: Any
    X: Any
    y: Any
    X_query: Any
    y_query: Any
    output: Any

    @cached_property
    def outputs(self) -> np.ndarray:
        """Output at every query, (n_query,) float64."""
        if learns_units(self.model) and not callable(self.output):
            return self._of_mean()
        if says_labels(self.model) and not callable(self.output):
            return self._of_most()
        task = _reading(self.model)
        train = make_examples(task, self.X, self.y)
        queries = make_examples(task, self.X_query, self.y_query, name="X_query")
        with torch.no_grad():
            start = task.forward(next(train.batches(1)).inputs)
        constant = _best_constant(task, start, present(train.targets, "training targets"))
        targets = present(queries.targets, "query targets")
        function = resolve_output(task, self.output, True)
        same = constant.expand(len(targets), *constant.shape[1:])
        return function(same, targets).detach().double().cpu().numpy()

    def _of_mean(self) -> np.ndarray:
        """Output of the mean target, as that of a model whose own predictions are asked for."""
        y, target = (np.asarray(values, dtype=float) for values in (self.y, self.y_query))
        mean = y.reshape(len(y), -1).mean(0)
        if self.output == "prediction":
            return np.full(len(target), mean[0])
        return -np.square(target.reshape(len(target), -1) - mean).sum(1)

    def _of_most(self) -> np.ndarray:
        """Output of the most frequent label: minus its 0/1 error."""
        labels, counts = np.unique(np.asarray(self.y), return_counts=True)
        return -(np.asarray(self.y_query) != labels[counts.argmax()]).astype(np.float64)


def _reading(model: Any) -> Task:
    """The Task that retrained models are evaluated by."""
    try:
        return predicting_task(model)
    except UnsupportedModelError:
        return plain_task(model)


def _best_constant(task: Task, start: Tensor, targets: Tensor) -> Tensor:
    """Natural output (1, ...) that makes the mean training loss least."""
    if isinstance(task.loss, ShareCrossEntropy):
        positions = class_positions(targets)
        return torch.bincount(positions, minlength=start.shape[1]).to(start)[None] / len(positions)
    constant = torch.zeros_like(start, dtype=torch.float64, requires_grad=True)
    targets = targets.double() if targets.is_floating_point() else targets
    search = torch.optim.LBFGS(
        [constant], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = task.loss(constant.expand(len(targets), *start.shape[1:]), targets).mean()
        loss.backward()
        return loss

    search.step(closure)
    return constant.detach().to(start.dtype)
