"""Data Banzhaf values by maximum sample reuse."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.values._designs import coin_pairs
from influencekit.values._empty_model import EmptyModel
from influencekit.values._estimates import Estimate, from_differences
from influencekit.values._from_trainings import BUDGET, CONSTRAINTS, FromTrainings
from influencekit.values._trainings import Trainings

__all__ = ["Banzhaf"]

#: Largest distance of the mean share of a subset from one half.
MARGIN = 0.1


class Banzhaf(FromTrainings):
    """Banzhaf value: the mean effect of a row on models trained on random halves of the others.

    ``score = mean(f | row in the subset) - mean(f | row not in it)``, over the same trainings for
    all rows (maximum sample reuse).

    Parameters
    ----------
    n_trainings : int, default=200
        Trainings on random subsets, at most; an even number is used.
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
    Datamodel : A regression on the same trainings, which shrinks noise.

    Notes
    -----
    Each row joins a subset with probability 1/2, and each subset is followed by its complement, so
    that each row is in half of the subsets.  ``subset_outputs`` may be halves of a fixed size as
    well: for more than a few rows that makes no difference that can be measured.

    Scores are known for the queries given to ``fit``: ``score`` takes those, some of them, or in
    another order.

    A classifier cannot be trained on a subset that lacks a class, nor any model on no row: the
    output of the best constant prediction stands there.

    Cost: one training for each subset.

    References
    ----------
    .. [1] J. T. Wang, R. Jia. Data Banzhaf: a robust data valuation framework for machine
       learning. AISTATS 2023, arXiv 2205.15466.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.values import Banzhaf
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> values = Banzhaf(n_trainings=20, random_state=0)
    >>> values = values.fit(model, X[::2], y[::2], X_query=X[1::10], y_query=y[1::10])
    >>> values.score(X[1::10], y[1::10]).shape
    (15, 75)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {**BUDGET, **CONSTRAINTS}

    def __init__(
        self,
        *,
        n_trainings: int = 200,
        tol: float | None = None,
        output: Any = "auto",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.n_trainings = n_trainings
        self.tol = tol
        self.output = output
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _draw(self, n_subsets: int, trainings: Trainings) -> NDArray:
        return coin_pairs(n_subsets // 2, self.n_train_, trainings.rng)

    def _estimate(self, found: SubsetOutputs, empty: EmptyModel) -> Estimate:
        masks, outputs = found.masks, found.mean_outputs()
        self._check_halves(masks)
        full = masks.all(axis=1)
        if full.any():  # the complement of all rows, on which nothing was trained
            places = np.flatnonzero(full) + 1
            masks = np.insert(masks, places, False, axis=0)
            outputs = np.insert(outputs, places, empty.outputs, axis=0)
        return from_differences(masks, outputs)

    def _check_halves(self, masks: NDArray) -> None:
        share, counts = masks.mean(), masks.sum(0)
        if abs(share - 0.5) > MARGIN and len(masks) > 3:
            raise ValueError(
                f"subset_outputs: the subsets hold {share:.0%} of the rows in the mean; accepted "
                "are random halves, such as retrain_on_subsets(subset_fraction=0.5) makes. "
                "Datamodel takes subsets of any size."
            )
        if counts.min() == 0 or counts.max() == len(masks):
            row = int(np.argmax((counts == 0) | (counts == len(masks))))
            raise ValueError(
                f"subset_outputs: row {row} is in none or in all of the {len(masks)} subsets, so "
                "that its effect cannot be told. Accepted are subsets that hold every row and "
                "leave every row out: train on more of them."
            )
