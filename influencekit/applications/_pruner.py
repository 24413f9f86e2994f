"""A smaller training set: rows of the lowest value are left out."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from influencekit.applications._fitting import (
    check_estimator,
    checked_labels,
    inherit_tags,
    remember_features,
    with_rows,
)
from influencekit.applications._noisy_labels import NoisyLabelDetector
from influencekit.applications._values import (
    check_attributor,
    check_reads,
    default_attributor,
    held_out_values,
    row_groups,
)
from influencekit.base import BaseAttributor
from influencekit.data._inputs import check_sample_weight
from influencekit.groups._group_attributor import GroupAttributor
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import (
    FOLDS,
    Interval,
    StrOptions,
    SuggestingEstimator,
    validate_parameters,
)

__all__ = ["DatasetPruner"]


#: What works for estimators that attributors cannot read.
_WITHOUT_GRADIENTS = (
    "What needs no gradients takes it: attributor=NoisyLabelDetector(estimator), or "
    "strategy='random'."
)


class DatasetPruner(MetaEstimatorMixin, SuggestingEstimator):
    """Leave out training rows of low value, with imbalanced-learn's ``fit_resample``.

    Parameters
    ----------
    estimator : estimator
        Cloned and fitted to find values.
    attributor : attributor, NoisyLabelDetector or None, default=None
        Gives the values.  An attributor is fitted in cross-validation: a row's value is its mean
        score for examples of the folds that it was not in.  The value of a NoisyLabelDetector
        (its own estimator counts) is minus the label score.  None is
        ``InfluenceFunction("ekfac")``, for trees ``TreeInfluence()``, with ``output="margin"``
        for classifiers.  A GroupAttributor groups all rows once, by a fit on them; its groups
        are kept or left out whole, see Notes.
    fraction : float in (0, 1), default=0.25
        Share of rows to leave out.
    strategy : {"lowest", "harmful", "weakest", "random"}, default="lowest"
        "lowest": the lowest values.  "harmful": the same, but only rows with a negative value,
        so that fewer may go.  "weakest": values closest to zero, of either sign.  "random":
        for comparison; nothing is fitted but what a grouper looks at.
    stratify : bool, default=True
        Leave out the same share of every class, for classifiers.  Otherwise values decide,
        and classes can vanish.
    cv : int or splitter, default=5
        Folds for the attributor.
    random_state : int, RandomState instance or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    sample_indices_ : ndarray of int of shape (n_kept,)
        Rows that stay, ascending.
    values_ : ndarray of shape (n,)
        Positive for rows that help; random for "random".  Rows of a group have the value of the
        group: the sum of their values, or with ``reduce="mean"`` the mean.

    Notes
    -----
    Of groups at most the fraction of the rows goes: one group after the other in the order of
    their values, equal ones in random order, up to the first that no longer fits.  With
    ``stratify`` that is done among the groups of each class; those with rows of several classes
    are a stratum of their own.

    Cost: ``cv`` fits and attributions.  scikit-learn's own Pipeline does not resample; use
    ``fit_resample`` before it, or imbalanced-learn's Pipeline.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.applications import DatasetPruner
    >>> X, y = load_iris(return_X_y=True)
    >>> pruner = DatasetPruner(LogisticRegression(max_iter=1000), fraction=0.2, random_state=0)
    >>> X_kept, y_kept = pruner.fit_resample(X, y)
    >>> X_kept.shape, len(pruner.sample_indices_)
    ((120, 4), 120)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "estimator": [object],  # looked at by check_estimator, where it is used
        "attributor": [BaseAttributor, NoisyLabelDetector, None],
        "fraction": [Interval(Real, 0, 1, closed="neither")],
        "strategy": [StrOptions({"lowest", "harmful", "weakest", "random"})],
        "stratify": ["boolean"],
        "cv": FOLDS,
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        attributor: Any = None,
        *,
        fraction: float = 0.25,
        strategy: str = "lowest",
        stratify: bool = True,
        cv: Any = 5,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.attributor = attributor
        self.fraction = fraction
        self.strategy = strategy
        self.stratify = stratify
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    @with_gradients
    def fit(self, X: Any, y: Any, *, sample_weight: Any = None) -> DatasetPruner:
        """Find values and the rows that stay.

        Parameters
        ----------
        X, y : array-like of n rows
        sample_weight : array-like of shape (n,), default=None
            Weights that the estimator is fitted with.

        Returns
        -------
        self : DatasetPruner

        Raises
        ------
        ValueError
            If shapes disagree, or no row would stay.
        """
        validate_parameters(self)
        if self.strategy != "random":
            check_estimator(self.estimator)
        if not isinstance(self.attributor, NoisyLabelDetector):
            check_attributor(self.attributor, "DatasetPruner")
        X = with_rows(X)
        classifier = hasattr(self.estimator, "fit") and is_classifier(self.estimator)
        y, n = checked_labels(X, y, classifier), count_rows(X)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, n)
        rng = check_random_state(self.random_state)
        self.values_ = self._values(X, y, n, rng, sample_weight)
        strata = np.asarray(y) if self.stratify and classifier else np.zeros(n)
        self._classes = np.unique(strata, return_inverse=True)[1]
        self._tie_breaker = rng.rand(n)
        if self._groups is not None:
            first = np.unique(self._groups, return_index=True)[1]
            self._tie_breaker = self._tie_breaker[first][self._groups]
            self._classes = _shared_classes(self._classes, self._groups)
        self.sample_indices_ = self.kept_at(self.fraction)
        remember_features(self, X)
        return self

    def kept_at(self, fraction: float) -> np.ndarray:
        """Rows that stay at another fraction; values are not found again.

        Parameters
        ----------
        fraction : float in (0, 1)

        Returns
        -------
        ndarray of int of shape (n_kept,)
            Ascending.

        Raises
        ------
        ValueError
            If no row would stay.
        """
        check_is_fitted(self, "values_")
        if not 0 < fraction < 1:
            raise ValueError(f"fraction: got {fraction!r}; accepted is a number between 0 and 1.")
        keep = np.ones(len(self.values_), dtype=bool)
        for label in np.unique(self._classes):
            keep[self._left_out(np.flatnonzero(self._classes == label), fraction)] = False
        if not keep.any():
            raise ValueError(
                f"fraction: {fraction} of {len(keep)} rows leaves none; use a smaller one."
            )
        return np.flatnonzero(keep)

    @with_gradients
    def fit_resample(self, X: Any, y: Any, *, sample_weight: Any = None) -> tuple[Any, Any]:
        """Rows that stay, in their order and in the container that they came in.

        Parameters
        ----------
        X, y : array-like of n rows
        sample_weight : array-like of shape (n,), default=None
            As in :meth:`fit`.

        Returns
        -------
        X_resampled, y_resampled : array-like of n_kept rows
        """
        rows = self.fit(X, y, sample_weight=sample_weight).sample_indices_
        return take_rows(X, rows), take_rows(y, rows)

    def _values(
        self, X: Any, y: Any, n: int, rng: np.random.RandomState, sample_weight: np.ndarray | None
    ) -> np.ndarray:
        self._groups = None
        if self.strategy == "random" and not isinstance(self.attributor, GroupAttributor):
            return rng.rand(n)
        seed = draw_seed(rng) // 2
        if isinstance(self.attributor, NoisyLabelDetector):
            detector = clone(self.attributor)
            if detector.random_state is None:
                detector.set_params(random_state=seed)
            return -detector.fit(X, y, sample_weight=sample_weight).label_scores_
        attributor = self.attributor
        if attributor is None:
            attributor = default_attributor(self.estimator)
        check_reads(attributor, self.estimator, _WITHOUT_GRADIENTS)
        groups = row_groups(attributor, self.estimator, X, y, seed, sample_weight)
        self._groups = groups
        if self.strategy == "random":
            return rng.rand(n)[groups]
        values = held_out_values(
            self.estimator,
            attributor,
            X,
            y,
            groups=groups,
            cv=self.cv,
            seed=seed,
            verbose=self.verbose,
            sample_weight=sample_weight,
        )
        if groups is None or attributor.reduce != "sum":
            return values
        return values * np.bincount(groups)[groups]

    def _left_out(self, rows: np.ndarray, fraction: float) -> np.ndarray:
        """Rows of a class to leave out; ties are broken at random."""
        limit = round(fraction * len(rows))
        if self.strategy == "harmful":
            rows = rows[self.values_[rows] < 0]
        values = self.values_[rows]
        key = np.abs(values) if self.strategy == "weakest" else values
        rows = rows[np.lexsort((self._tie_breaker[rows], key))]
        if self._groups is not None:
            groups = self._groups[rows]
            ends = np.flatnonzero(np.append(groups[1:] != groups[:-1], True)) + 1
            limit = int(ends[ends <= limit].max(initial=0))
        return rows[:limit]

    def __sklearn_tags__(self) -> Any:
        """Tags of scikit-learn: those of the estimator's inputs."""
        return inherit_tags(super().__sklearn_tags__(), self.estimator)


def _shared_classes(classes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Class of each row's group; -1 where its rows have several."""
    lowest, highest = np.full(groups.max() + 1, classes.max()), np.zeros(groups.max() + 1, int)
    np.minimum.at(lowest, groups, classes)
    np.maximum.at(highest, groups, classes)
    return np.where(lowest == highest, lowest, -1)[groups]
