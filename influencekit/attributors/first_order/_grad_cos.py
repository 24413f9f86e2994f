"""First-order attribution by the angle between gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from influencekit._fitted import (
    GRADIENT_CONSTRAINTS,
    LAYERS,
    gradient_engine,
    training_gradients,
)
from influencekit.attributors.first_order._first_order import ProductsWithTraining
from influencekit.base import BaseAttributor, Fitted
from influencekit.data._examples import Examples
from influencekit.gradients._gradients import Gradients
from influencekit.models._task import Task

__all__ = ["GradCos"]


class GradCos(BaseAttributor):
    """Cosine of the test output's and the training losses' gradients.

    ``score_ij = -cos(∇f_i, ∇loss_j)``, between -1 and 1; 0 where a gradient is zero.  Unlike
    :class:`GradDot` it does not favor training examples with a large loss.

    Parameters
    ----------
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        What is explained; see :class:`InfluenceFunction`.
    layers : str, list of str or None, default=None
        Layers that scores are computed from; all other parameters are constants. "last", or names
        or patterns of modules or parameters, such as ``"encoder.*.attention"``; None is all.
    batch_size : int or None, default=None
        Examples whose gradients are taken at a time; None chooses from ``max_memory``.
    max_memory : int, str or None, default=None
        Bytes that may be taken, or a text such as "2GB". None holds at most 1 GiB, whatever is
        free, and refuses what needs more than half of the free memory.
    verbose : int, default=0
        1 shows progress over batches of gradients.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    Not an approximation of :class:`FurtherTraining` of any order: dividing by the norms of the
    gradients removes the information about the size of an effect.

    Cost: that of :class:`GradDot`, plus the norms of the gradients.

    References
    ----------
    .. [1] K. Hanawa, S. Yokoi, S. Hara, K. Inui. Evaluation of similarity-based explanations.
       ICLR 2021, arXiv 2006.04528.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import GradCos
    >>> X, y = load_iris(return_X_y=True)
    >>> GradCos().fit(LogisticRegression(max_iter=1000).fit(X, y), X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **GRADIENT_CONSTRAINTS,
        "layers": LAYERS,
    }

    def __init__(
        self,
        output: str | Callable = "auto",
        *,
        layers: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        self.layers = layers
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.verbose = verbose

    def _fit(self, task: Task, train: Examples) -> Fitted:
        return Cosines(training_gradients(gradient_engine(self, task), train), self.output)


class Cosines(ProductsWithTraining):
    """Cosines of query gradients with the training gradients of one model.

    Parameters
    ----------
    train : Gradients
    output : str or callable
    """

    def __init__(self, train: Gradients, output: Any):
        super().__init__(train, output)
        self.train_norms = train.squared_norms().sqrt()

    def scores(self, queries: Examples) -> np.ndarray:
        gradients, products = self.products(queries)
        norms = gradients.squared_norms().sqrt()
        scale = norms[:, None] * self.train_norms
        # -<∇f_i, ∇loss_j> / (‖∇f_i‖ ‖∇loss_j‖)
        cosine = torch.where(scale > 0, -products / torch.where(scale > 0, scale, 1.0), 0.0)
        return cosine.clamp(-1.0, 1.0).cpu().numpy()

    def self_scores(self) -> np.ndarray:
        return (self.train_norms > 0).to(torch.float64).cpu().numpy()
