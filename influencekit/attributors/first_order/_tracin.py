"""First-order attribution along training checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from influencekit._fitted import GRADIENT_CONSTRAINTS, LAYERS, Fitted
from influencekit.attributors.first_order._first_order import FirstOrder
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples
from influencekit.models._task import Task

__all__ = ["TracIn"]


class TracIn(BaseAttributor):
    """Inner products of gradients, summed over checkpoints with their learning rates.

    ``score_ij = -Σ_c η_c <∇f_i(θ_c), ∇loss_j(θ_c)> w_j / mean(w)``: how much the steps on
    example j near the checkpoints raised the output of test example i (TracInCP).

    Parameters
    ----------
    learning_rates : float, array-like of shape (n_checkpoints,) or None, default=None
        Learning rate η of the part of training that each checkpoint represents. None is 1, which is
        right up to scale if the rate was constant.
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
        Snapshot of the first checkpoint.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    As an approximation of further training: first order, summed over the checkpoints of the actual
    training. It needs those checkpoints, while the other methods need only the final model.

    ``fit`` takes the checkpoints as a list of models; :func:`influencekit.models.load_checkpoints`
    makes this list from saved weights. With one model, TracIn is :class:`GradDot` times a learning
    rate. Cost: that of :class:`GradDot` for each checkpoint.

    References
    ----------
    .. [1] G. Pruthi, F. Liu, M. Sundararajan, S. Kale. Estimating training data influence by
       tracing gradient descent. NeurIPS 2020, arXiv 2002.08484.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import TracIn
    >>> X, y = load_iris(return_X_y=True)
    >>> checkpoints = [LogisticRegression(C=C, max_iter=1000).fit(X, y) for C in (0.1, 1.0)]
    >>> TracIn(learning_rates=[0.1, 0.05]).fit(checkpoints, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **GRADIENT_CONSTRAINTS,
        "layers": LAYERS,
        "learning_rates": ["array-like", Real, None],
    }

    def __init__(
        self,
        learning_rates: Any = None,
        output: str | Callable = "auto",
        *,
        layers: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        self.learning_rates = learning_rates
        self.layers = layers
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.verbose = verbose

    def _fit(self, task: Task, train: Examples) -> Fitted:
        return FirstOrder(self, task, train, float(_rates(self.learning_rates, 1)[0]))

    def _for_each(self, n_models: int) -> list[Self]:
        rates = _rates(self.learning_rates, n_models)
        pairs = zip(super()._for_each(n_models), rates, strict=True)
        return [one.set_params(learning_rates=float(rate)) for one, rate in pairs]

    def _combine(self, total: np.ndarray, _n_models: int) -> np.ndarray:
        return total


def _rates(learning_rates: Any, n_checkpoints: int) -> np.ndarray:
    """One learning rate for each checkpoint."""
    given = np.asarray(1.0 if learning_rates is None else learning_rates)
    rates = given.astype(np.float64) if given.dtype.kind in "iuf" else np.full(0, np.nan)
    if given.ndim == 0 and len(rates.shape) == 0:
        rates = np.full(n_checkpoints, rates)
    fine = rates.shape == (n_checkpoints,) and np.isfinite(rates).all() and (rates >= 0).all()
    if not fine or not rates.any():
        raise ValueError(
            f"learning_rates: got {learning_rates!r} for {n_checkpoints} checkpoints; accepted is "
            "a number above 0, or one finite number for each model given to fit, not negative and "
            "not all 0."
        )
    return rates
