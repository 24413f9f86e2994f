"""First-order attribution: inner products of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from influencekit._fitted import GRADIENT_CONSTRAINTS, LAYERS, Fitted
from influencekit.attributors.first_order._first_order import FirstOrder
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples
from influencekit.models._task import Task

__all__ = ["GradDot"]


class GradDot(BaseAttributor):
    """Inner products of the test output's and the training losses' gradients.

    ``score_ij = -<∇f_i, ∇loss_j> w_j / mean(w)``, the effect of one plain gradient step on
    example j, up to the step size.  Up to scale, it is the influence function with infinite
    damping.

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
    As an approximation of :class:`FurtherTraining`: first order in the change of the parameters,
    without curvature. Accurate for short further training; it is the limit of influence functions
    at infinite damping.

    Cost ``O((n + m) p)`` for gradients, kept as factors, and ``O(n m Σ (d_in + d_out))`` for the
    products of layers with ``d_in`` inputs and ``d_out`` outputs; p-sized gradients are not formed.

    References
    ----------
    .. [1] G. Charpiat, N. Girard, L. Felardos, Y. Tarabalka. Input similarity from the neural
       network perspective. NeurIPS 2019, arXiv 2102.05262.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import GradDot
    >>> X, y = load_iris(return_X_y=True)
    >>> GradDot().fit(LogisticRegression(max_iter=1000).fit(X, y), X, y).score(X[:2], y[:2]).shape
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
        return FirstOrder(self, task, train)
