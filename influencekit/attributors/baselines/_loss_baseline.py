"""A baseline without gradients: training examples by their loss."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from influencekit._fitted import (
    GRADIENT_CONSTRAINTS,
    gradient_engine,
    training_weights,
)
from influencekit.base import BaseAttributor, Fitted
from influencekit.data._examples import Examples
from influencekit.models._task import Task
from influencekit.utils._long_work import chunks

__all__ = ["LossBaseline"]

#: Default number of examples in one forward pass.
_BATCH = 1024


class LossBaseline(BaseAttributor):
    """Baseline: training examples by their loss under the model, the same for every query.

    ``score_ij = -loss_j w_j / mean(w)``.  Examples with a high loss, such as those with a wrong
    label, count as opponents. Looking at the strongest opponents first is therefore the usual
    search for wrong labels by loss. The scores do not depend on the query: a method that explains
    predictions should rank better than this one.

    Parameters
    ----------
    batch_size : int or None, default=None
        Number of examples in one forward pass; None is 1,024.
    max_memory : int, str or None, default=None
        Unused; present so that attributors can be exchanged.
    verbose : int, default=0
        Unused.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    Cost: one forward pass over the training data.  ``self_influence`` is the same score.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import LossBaseline
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> LossBaseline().fit(model, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        name: GRADIENT_CONSTRAINTS[name] for name in ("batch_size", "max_memory", "verbose")
    }

    def __init__(
        self,
        *,
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.verbose = verbose

    def _fit(self, task: Task, train: Examples) -> Fitted:
        engine, size = gradient_engine(self, task), self.batch_size or _BATCH
        losses = []
        with torch.no_grad():
            for rows in chunks(len(train), 1, size):
                some = train.take(rows)
                targets: Any = some.targets
                losses.append(task.loss(engine.outputs(some), targets).to(torch.float64))
        weights = training_weights(task, train)
        scores = -torch.cat(losses) * weights / weights.mean()
        return _OfRows(scores.cpu().numpy())


class _OfRows(Fitted):
    """The same score of a row for every query."""

    def __init__(self, of_rows: np.ndarray):
        self.of_rows = of_rows

    def scores(self, queries: Examples) -> np.ndarray:
        return np.tile(self.of_rows, (len(queries), 1))

    def self_scores(self) -> np.ndarray:
        return self.of_rows.copy()
