"""A linear model of what retrained models say, by which rows they learned from."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LassoCV
from sklearn.model_selection import KFold

from influencekit.attributors.posterior._linear_gaussian import best_posterior, candidates
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils.validation import Interval, StrOptions
from influencekit.values._designs import balanced_masks
from influencekit.values._empty_model import EmptyModel
from influencekit.values._estimates import Estimate
from influencekit.values._from_trainings import BUDGET, CONSTRAINTS, FromTrainings
from influencekit.values._trainings import Trainings

__all__ = ["Datamodel"]

#: Parts of the trainings, each left out once for the standard errors.
PARTS = 10
#: Penalties of the lasso to choose from, in units of the least that makes all coefficients 0.
PENALTIES = np.geomspace(1, 0.01, 30)


class Datamodel(FromTrainings):
    """Linear regression of retrained models' outputs on which rows they learned from.

    A score is the coefficient of its row: by how much models that learned from the row answer the
    query better.

    Parameters
    ----------
    regression : {"ridge", "lasso"}, default="ridge"
        - "ridge": the posterior mean of :class:`~influencekit.SubsetPosterior` without a prior,
          the same numbers: one penalty for all queries, that of the highest restricted likelihood.
        - "lasso": a penalty for each query, by cross-validation (LassoCV).
    n_trainings : int, default=200
        Trainings on random subsets, at most.
    subset_fraction : float in (0, 1), default=0.5
        Share of the rows in a subset.
    cv : int, default=5
        Folds of the trainings that choose the lasso's penalty.
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
    SubsetPosterior : The same with another attributor's scores as prior.
    Banzhaf : Differences of means in place of a regression.

    Notes
    -----
    Subsets are balanced: each row is in equally many of them, or in one more. Halves of an even
    number of rows come in pairs of complements.

    Scores are known for the queries given to ``fit``: ``score`` takes those, some of them, or in
    another order.

    Standard errors come from leaving a tenth of the trainings out (a grouped jackknife), at the
    same penalty for the lasso.  They tell how much the scores would vary under other trainings, not
    how far the penalty shrinks them.

    Cost: one training for each subset.

    References
    ----------
    .. [1] A. Ilyas, S. M. Park, L. Engstrom, G. Leclerc, A. Madry. Datamodels: predicting
       predictions from training data. ICML 2022, arXiv 2202.00622.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from influencekit.values import Datamodel
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RandomForestClassifier(n_estimators=10, random_state=0).fit(X[::2], y[::2])
    >>> values = Datamodel(n_trainings=20, random_state=0)
    >>> values = values.fit(model, X[::2], y[::2], X_query=X[1::10], y_query=y[1::10])
    >>> values.score(X[1::10], y[1::10]).shape
    (15, 75)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "regression": [StrOptions({"ridge", "lasso"})],
        "subset_fraction": [Interval(Real, 0, 1, closed="neither")],
        "cv": [Interval(Integral, 2, None, closed="left")],
        **BUDGET,
        **CONSTRAINTS,
    }

    def __init__(
        self,
        regression: str = "ridge",
        *,
        n_trainings: int = 200,
        subset_fraction: float = 0.5,
        cv: int = 5,
        tol: float | None = None,
        output: Any = "auto",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.regression = regression
        self.n_trainings = n_trainings
        self.subset_fraction = subset_fraction
        self.cv = cv
        self.tol = tol
        self.output = output
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _draw(self, n_subsets: int, trainings: Trainings) -> NDArray:
        counts = trainings.masks.sum(0)
        size = min(max(round(self.subset_fraction * len(counts)), 1), len(counts) - 1)
        return balanced_masks(n_subsets, counts, size, trainings.rng)

    def _estimate(self, found: SubsetOutputs, empty: EmptyModel) -> Estimate:  # noqa: ARG002  other values take it
        masks, outputs = found.masks, found.mean_outputs()
        if self.regression == "ridge":
            return Estimate(ridge(masks, outputs), _jackknife(ridge, masks, outputs))
        each = [self._lasso(masks, column) for column in outputs.T]
        scores, errors = (np.stack(parts) for parts in zip(*each, strict=True))
        return Estimate(scores, errors)

    def _lasso(self, masks: NDArray, output: NDArray) -> tuple[NDArray, NDArray]:
        """Coefficients and errors of one query."""
        scale = output.std() or 1.0
        Z, y = masks.astype(float), (output - output.mean()) / scale
        largest = np.abs((Z - Z.mean(0)).T @ y).max() / len(y) or 1.0
        folds = KFold(min(self.cv, len(y) // 2))
        with warnings.catch_warnings():  # the smallest penalties need not converge to be passed by
            warnings.simplefilter("ignore", ConvergenceWarning)
            alpha = LassoCV(alphas=largest * PENALTIES, cv=folds, random_state=0).fit(Z, y).alpha_

            def fitted(Z: NDArray, y: NDArray) -> NDArray:
                return Lasso(alpha, random_state=0).fit(Z, y).coef_

            return scale * fitted(Z, y), scale * _jackknife(fitted, Z, y)


def ridge(masks: NDArray, outputs: NDArray) -> NDArray:
    """Coefficients (n_query, n_train) under the penalty of the highest restricted likelihood."""
    masks = masks.astype(float)
    return best_posterior(masks, outputs, candidates(None, masks.shape[1]), True).scores


def _jackknife(fit: Callable, masks: NDArray, outputs: NDArray) -> NDArray:
    """Standard errors of a fit, from leaving parts of the trainings out; pairs stay together."""
    n_parts = min(PARTS, len(masks) // 2)
    part = (np.arange(len(masks)) // 2) % n_parts
    left = np.stack([fit(masks[part != p], outputs[part != p]) for p in range(n_parts)])
    return np.sqrt((n_parts - 1) * left.var(axis=0))
