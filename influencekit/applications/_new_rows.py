"""What a detector of wrong labels says of rows that come later."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from influencekit.applications._evidence import check_count, method_in_use
from influencekit.applications._fitting import (
    check_features,
    label_positions,
    predicted,
    with_rows,
)
from influencekit.applications._label_probabilities import cross_entropy, normalized_margin
from influencekit.utils._torch import with_gradients

__all__ = ["JudgesNewRows"]

#: Methods whose scores can be made for labeled rows that come later.
_PREDICTIVE = {"rounds", "loss", "margin"}


def _scores_new_rows(detector: Any) -> bool:
    """Whether rows that come later can be scored as the training rows were."""
    check_is_fitted(detector, "label_scores_")
    return detector.method_ in _PREDICTIVE and hasattr(detector, "estimator_")


def _has_estimator(detector: Any) -> bool:
    """Whether an estimator was fitted without the suspected rows."""
    return detector.refit


class JudgesNewRows:
    """Verdicts, on the rows of ``fit`` and on later ones."""

    fit: Any
    estimator_: Any
    method_: str
    threshold_: float

    @with_gradients
    def fit_predict(
        self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, **options: Any
    ) -> np.ndarray:
        """Judge the labels of the rows given, in scikit-learn's convention for outliers.

        Parameters
        ----------
        X, y, X_val, y_val : array-like
            As in :meth:`fit`.
        **options
            ``sample_weight`` and ``groups`` of :meth:`fit`.

        Returns
        -------
        ndarray of int of shape (n,)
            -1 for suspected rows, 1 for the others.
        """
        check_count(self, method_in_use(self))
        return np.where(self.fit(X, y, X_val, y_val, **options).suspected_, -1, 1)

    @available_if(_scores_new_rows)
    @with_gradients
    def score_samples(self, X: Any, y: Any = None) -> np.ndarray:
        """Suspicion of labels of rows that ``estimator_`` did not learn from.

        Parameters
        ----------
        X : array-like of n rows
        y : array-like of shape (n,), default=None
            None uses the labels that ``estimator_`` predicts: the least suspicion that any
            label of the row could have.

        Returns
        -------
        ndarray of shape (n,)
            Higher is more suspicious; of one model, where ``label_scores_`` may be of several.

        Raises
        ------
        ValueError
            If ``y`` holds labels that were not in the training data.
        """
        X = with_rows(X)
        check_features(self, X)
        classes = getattr(self, "classes_", None)
        found = predicted(self.estimator_, X, classes)
        labels = None if y is None else label_positions(X, y, classes)
        if classes is None:
            return np.square((found if labels is None else labels) - found)
        score = normalized_margin if self.method_ == "margin" else cross_entropy
        return score(found, found.argmax(axis=1) if labels is None else labels)

    @available_if(_scores_new_rows)
    @with_gradients
    def predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Judge rows that come later.

        Parameters
        ----------
        X : array-like of n rows
        y : array-like of shape (n,), default=None
            None marks rows that would be suspicious whatever their label.

        Returns
        -------
        ndarray of int of shape (n,)
            -1 where ``score_samples`` reaches ``threshold_``, else 1.
        """
        check_count(self, self.method_)
        return np.where(self.score_samples(X, y) >= self.threshold_, -1, 1)

    @available_if(_has_estimator)
    @with_gradients
    def score(self, X: Any, y: Any) -> float:
        """Score of ``estimator_`` on other rows: what a search over this detector maximizes.

        Parameters
        ----------
        X, y : array-like of n rows

        Returns
        -------
        float
            Accuracy of a classifier, R² of a regressor.
        """
        check_is_fitted(self, "estimator_")
        return float(self.estimator_.score(X, y))
