"""Data Shapley values, by random orders or by complementary contributions."""

from __future__ import annotations

import os
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils.validation import Interval, StrOptions
from influencekit.values._designs import sized_pairs
from influencekit.values._empty_model import EmptyModel
from influencekit.values._estimates import (
    Estimate,
    chains_of,
    from_complements,
    from_permutations,
    pairs_of,
)
from influencekit.values._from_trainings import BUDGET, CONSTRAINTS, FromTrainings
from influencekit.values._orders import follow_orders, split_full
from influencekit.values._trainings import Trainings

__all__ = ["Shapley"]

#: Least mean of ``|2 size / n - 1|`` of subsets of all sizes: 0.5 is expected, halves have 0.
SPREAD = 0.3


class Shapley(FromTrainings):
    """Shapley value: the mean effect of a row on models trained on the rows before it in an order.

    The scores of a query sum to its output with all rows less that of the best constant
    prediction.

    Parameters
    ----------
    method : {"complementary", "permutation"}, default="complementary"
        - "complementary": subsets of all sizes and their complements; every training tells
          something of every row.
        - "permutation": rows join one at a time in random orders, each followed by its reverse.
          One order takes up to ``n_train`` trainings.
    n_trainings : int, default=200
        Trainings, at most; "permutation" always follows two orders.
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
    BetaShapley : Gives small subsets more weight, where effects stand out of the noise.
    KNNShapley : Exact, of the nearest neighbors' vote in place of the model.

    Notes
    -----
    Small subsets are part of the definition.  Nothing can be trained on no row, nor a classifier on
    rows that lack a class: the output of the best constant prediction stands there.

    ``subset_outputs`` takes what an earlier fit with the same method kept; random halves are
    refused, since a Shapley value needs all sizes alike.

    Scores are known for the queries given to ``fit``: ``score`` takes those, some of them, or in
    another order.

    "complementary" subtracts from each difference what the subset's size alone lets expect, which
    cancels in the mean and takes noise out.

    Cost: one training for each subset.

    References
    ----------
    .. [1] A. Ghorbani, J. Zou. Data Shapley: equitable valuation of data for machine learning.
       ICML 2019, arXiv 1904.02868.
    .. [2] J. Zhang, Q. Sun, J. Liu, L. Xiong, J. Pei, K. Ren. Efficient sampling approaches to
       Shapley value approximation. SIGMOD 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.values import Shapley
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> values = Shapley(n_trainings=20, random_state=0)
    >>> values = values.fit(model, X[::2], y[::2], X_query=X[1::10], y_query=y[1::10])
    >>> values.score(X[1::10], y[1::10]).shape
    (15, 75)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "method": [StrOptions({"complementary", "permutation"})],
        "truncation": [Interval(Real, 0, 1, closed="left")],
        **BUDGET,
        **CONSTRAINTS,
    }

    def __init__(
        self,
        method: str = "complementary",
        *,
        n_trainings: int = 200,
        truncation: float = 0.05,
        tol: float | None = None,
        output: Any = "auto",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.method = method
        self.n_trainings = n_trainings
        self.truncation = truncation
        self.tol = tol
        self.output = output
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, trainings: Trainings) -> SubsetOutputs:
        if self.method == "permutation":
            weights = np.ones(self.n_train_)
            return follow_orders(
                trainings, weights, self.n_trainings, self.truncation, self._exact_enough
            )
        trainings(np.ones((1, self.n_train_), dtype=bool))
        return super()._train(trainings)

    def _draw(self, n_subsets: int, trainings: Trainings) -> NDArray:
        done = (len(trainings.masks) - 1) // 2
        n_pairs = max(n_subsets // 2, 1)
        return sized_pairs(done, n_pairs, self.n_train_, trainings.start, trainings.rng)

    def _estimate(self, found: SubsetOutputs, empty: EmptyModel) -> Estimate:
        masks, outputs = found.masks, found.mean_outputs()
        masks, outputs, full = split_full(masks, outputs)
        if self.method == "permutation":
            if chains_of(masks) is None:
                raise _other_sizes("rows that join one at a time")
            weights = np.ones(masks.shape[1])
            return from_permutations(masks, outputs, full, empty.outputs, weights)
        spread = np.abs(2 * masks.mean(1) - 1).mean() if len(masks) else 0.0
        if not pairs_of(masks) or spread < SPREAD:
            raise _other_sizes("pairs of complements of all sizes")
        return from_complements(masks, outputs, full, empty.outputs)


def _other_sizes(what: str) -> ValueError:
    return ValueError(
        f"subset_outputs: got subsets that are not {what}, which these values are made of. "
        "Accepted is subset_outputs_ of an earlier fit with the same method; leave it out to train "
        "on subsets of the right sizes. Random halves are for Datamodel and Banzhaf."
    )
