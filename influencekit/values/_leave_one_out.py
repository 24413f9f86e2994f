"""Leave-one-out by training again without each row."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils.validation import Interval
from influencekit.values._empty_model import EmptyModel
from influencekit.values._estimates import Estimate
from influencekit.values._from_trainings import CONSTRAINTS, FromTrainings
from influencekit.values._trainings import Trainings

__all__ = ["LeaveOneOut"]


class LeaveOneOut(FromTrainings):
    """Output of the model trained on all rows, less that of one trained without the row.

    Parameters
    ----------
    n_repeats : int, default=1
        Trainings of each set of rows, under different seeds; two or more tell the standard error.
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
    InfluenceFunction : Predicts it without retraining.

    Notes
    -----
    For models whose training draws random numbers (nets, forests) the effect of one row is mostly
    below the noise of the seeds: look at ``std_error_``, which is NaN with one repeat.

    Scores are known for the queries given to ``fit``: ``score`` takes those, some of them, or in
    another order.

    Cost: ``n_repeats * (n_train + 1)`` trainings.

    References
    ----------
    .. [1] R. D. Cook. Detection of influential observation in linear regression.
       Technometrics 1977.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from influencekit.values import LeaveOneOut
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = Ridge().fit(X[:30], y[:30])
    >>> left_out = LeaveOneOut(random_state=0)
    >>> left_out = left_out.fit(model, X[:30], y[:30], X_query=X[30:35], y_query=y[30:35])
    >>> left_out.score(X[30:35], y[30:35]).shape
    (5, 30)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        n_repeats: int = 1,
        output: Any = "auto",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.n_repeats = n_repeats
        self.output = output
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _repeats(self) -> int:
        return self.n_repeats

    def _train(self, trainings: Trainings) -> SubsetOutputs:
        n = self.n_train_
        trainings(np.vstack([np.ones((1, n), dtype=bool), ~np.eye(n, dtype=bool)]))
        return trainings.together()

    def _estimate(self, found: SubsetOutputs, empty: EmptyModel) -> Estimate:  # noqa: ARG002  other values take it
        places = _places(found)
        outputs, n_repeats = found.outputs, found.outputs.shape[1]
        means = outputs.mean(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            variances = np.square(outputs - means[:, None]).sum(1) / (n_repeats - 1) / n_repeats
        full = int(np.argmax(found.masks.all(axis=1)))
        errors = np.sqrt(variances[full] + variances[places])
        return Estimate((means[full] - means[places]).T, errors.T)


def _places(found: SubsetOutputs) -> np.ndarray:
    """Where the subset without each row stands."""
    sizes, n = found.masks.sum(1), found.masks.shape[1]
    alone = np.flatnonzero(sizes == n - 1)
    rows = np.argmin(found.masks[alone], axis=1)
    if not (sizes == n).any() or len(np.unique(rows)) < n:
        raise ValueError(
            f"subset_outputs: got {len(np.unique(rows))} of {n} subsets that leave one row out, "
            f"and {int((sizes == n).sum())} of all rows; accepted are all of them. Leave "
            "subset_outputs out to train on them."
        )
    places = np.empty(n, dtype=int)
    places[rows] = alone
    return places
