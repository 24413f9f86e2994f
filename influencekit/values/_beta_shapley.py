"""Beta Shapley values: Shapley values that weigh subsets by their size."""

from __future__ import annotations

import os
from numbers import Real
from typing import Any, ClassVar

from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils.validation import Interval
from influencekit.values._empty_model import EmptyModel
from influencekit.values._estimates import Estimate, beta_weights, chains_of, from_permutations
from influencekit.values._from_trainings import BUDGET, CONSTRAINTS, FromTrainings
from influencekit.values._orders import follow_orders, split_full
from influencekit.values._trainings import Trainings

__all__ = ["BetaShapley"]


class BetaShapley(FromTrainings):
    """Beta Shapley value: effects of a row on rows before it in an order, weighed by their number.

    Parameters
    ----------
    alpha : float, default=16.0
        Above 1 it gives effects on few rows more weight, where they stand out of the noise.
    beta : float, default=1.0
        Above 1 it gives effects on many rows more weight.  ``alpha=1, beta=1`` is the Shapley
        value.
    n_trainings : int, default=1000
        Trainings, at most; two orders are always followed.
    truncation : float, default=0.05
        An order is followed until the outputs are this near, in the mean over queries, to those
        with all rows: as a share of the distance between no row and all.  The rows that it did not
        come to share the rest evenly.  0 follows every order to its end.
    tol : float or None, default=None
        Stop once the mean standard error of the scores is at most this, in units of the output;
        it is looked at every 20 trainings.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        What retrained models are asked for; "auto" is "neg_loss".
    cache_dir : path-like, default=None
        Where trainings are kept and found again; see :func:`~influencekit.retrain_on_subsets`.
    n_jobs : int, default=None
        Workers of the trainings.
    random_state : int, RandomState instance or None, default=None
        Of subsets and trainings.
    verbose : int, default=0
        1 shows progress over trainings.

    Attributes
    ----------
    subset_outputs_ : SubsetOutputs
        What the scores were learned from.
    std_error_ : ndarray of shape (n_query, n_train)
        Standard errors of the scores, in the order of ``X_query``.
    task_ : Task
        Snapshot of the model.
    n_train_ : int
    train_rows_ : ndarray of int

    See Also
    --------
    Shapley : All sizes alike.

    Notes
    -----
    Rows join one at a time in random orders, each followed by its reverse.  An order ends where the
    places left have less than 1 % of the weight: with ``alpha=16`` after a quarter of the rows.

    Nothing can be trained on no row, nor a classifier on rows that lack a class: the output of the
    best constant prediction stands there.

    ``subset_outputs`` takes what an earlier fit, or ``Shapley("permutation")``, kept; random halves
    are refused.

    Weights are divided by their sum over the places that a row had.

    Cost: one training for each subset; an order takes one a row until it ends.

    Scores are known for the queries given to ``fit``: ``score`` takes those, some of them, or in
    another order.

    References
    ----------
    .. [1] Y. Kwon, J. Zou. Beta Shapley: a unified and noise-reduced data valuation framework for
       machine learning. AISTATS 2022, arXiv 2110.14049.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from influencekit.values import BetaShapley
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = Ridge().fit(X[:30], y[:30])
    >>> values = BetaShapley(n_trainings=40, random_state=0)
    >>> values = values.fit(model, X[:30], y[:30], X_query=X[30:35], y_query=y[30:35])
    >>> values.score(X[30:35], y[30:35]).shape
    (5, 30)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "truncation": [Interval(Real, 0, 1, closed="left")],
        **BUDGET,
        **CONSTRAINTS,
    }

    def __init__(
        self,
        alpha: float = 16.0,
        beta: float = 1.0,
        *,
        n_trainings: int = 1000,
        truncation: float = 0.05,
        tol: float | None = None,
        output: Any = "auto",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.alpha = alpha
        self.beta = beta
        self.n_trainings = n_trainings
        self.truncation = truncation
        self.tol = tol
        self.output = output
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, trainings: Trainings) -> SubsetOutputs:
        weights = beta_weights(self.n_train_, self.alpha, self.beta)
        return follow_orders(
            trainings, weights, self.n_trainings, self.truncation, self._exact_enough
        )

    def _estimate(self, found: SubsetOutputs, empty: EmptyModel) -> Estimate:
        masks, outputs = found.masks, found.mean_outputs()
        masks, outputs, full = split_full(masks, outputs)
        if chains_of(masks) is None:
            raise ValueError(
                "subset_outputs: got subsets that are not rows that join one at a time, which "
                "these values are made of. Accepted is subset_outputs_ of an earlier fit; leave it "
                "out to train on subsets of the right sizes. Random halves are for Datamodel and "
                "Banzhaf."
            )
        weights = beta_weights(masks.shape[1], self.alpha, self.beta)
        return from_permutations(masks, outputs, full, empty.outputs, weights)
