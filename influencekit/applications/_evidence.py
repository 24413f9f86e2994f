"""The methods of NoisyLabelDetector: each makes a score for every labelled row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from influencekit.applications._fitting import (
    check_labelled,
    fit_on,
    fold_list,
    fold_probabilities,
    is_frozen,
    probabilities,
)
from influencekit.applications._row_groups import fit_groups, row_groups
from influencekit.applications._suspicion import (
    cross_entropy,
    group_means,
    kept_rows,
    normalized_margin,
)
from influencekit.applications._values import held_out_values, total_scores
from influencekit.attributors import FurtherTraining, InfluenceFunction
from influencekit.data import one_column
from influencekit.training.estimator._rows import take_rows
from influencekit.utils import progress

__all__ = ["BY_INFLUENCE", "METHODS", "Evidence", "LabelledData", "collect"]


@dataclass
class LabelledData:
    """What a detector was given, checked.

    Parameters
    ----------
    X, y : array-like of n rows
    classes : ndarray or None
        None for regression.
    labels : ndarray of int of shape (n,) or None
        Positions of the labels in ``classes``.
    X_val, y_val : array-like or None
        Rows whose labels are trusted.
    seed : int
    """

    X: Any
    y: Any
    classes: np.ndarray | None
    labels: np.ndarray | None
    X_val: Any = None
    y_val: Any = None
    seed: int = 0

    @classmethod
    def checked(cls, X, y, X_val, y_val, classifier: bool, seed: int) -> LabelledData:
        """Data with consistent lengths and, for a classifier, two classes or more."""
        y, y_val = one_column(y), one_column(y_val)
        check_labelled(X, y)
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val, y_val: got one of the two; give both or none.")
        if X_val is not None:
            check_labelled(X_val, y_val, ("X_val", "y_val"))
        if not classifier:
            return cls(X, y, None, None, X_val, y_val, seed)
        classes, labels = np.unique(np.asarray(y), return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y: holds the one class {classes.tolist()}; accepted are two or more."
            )
        return cls(X, y, classes, labels, X_val, y_val, seed)


@dataclass
class Evidence:
    """Scores of all rows, and what they were made of.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Higher is more suspicious.
    probabilities : ndarray of shape (n, n_classes) or None
    attributor : fitted attributor or None
    """

    scores: np.ndarray
    probabilities: np.ndarray | None = None
    attributor: Any = None


def collect(detector, method: str, data: LabelledData) -> Evidence:
    """Scores of the rows by one of METHODS."""
    return METHODS[method](detector, data)


def _by_rounds(detector, data: LabelledData) -> Evidence:
    """Out-of-fold probabilities, again without contradicted rows, and two fits on all data."""
    if is_frozen(detector.estimator):
        raise ValueError(
            "method='rounds' fits the estimator many times, but a FrozenEstimator stays as it is. "
            "Give the unfitted estimator, or take method='loss'."
        )
    n = len(data.labels)
    cv = 5 if detector.cv is None else detector.cv
    keep, found = np.ones(n, dtype=bool), []
    steps = range(detector.n_rounds + 1)
    for step in progress(steps, "rounds", detector.verbose):
        found.append(_out_of_fold(detector, data, cv, keep, data.seed + step))
        keep = kept_rows(found[-1], data.labels)
    parts = [np.mean(found, axis=0), _in_sample(detector, data, None)]
    parts.append(_in_sample(detector, data, np.flatnonzero(keep)))
    mean = np.mean(parts, axis=0)
    return Evidence(cross_entropy(mean, data.labels), mean)


def _by_loss(detector, data: LabelledData) -> Evidence:
    if data.labels is None:
        return _by_squared_error(detector, data)
    found = _predicted(detector, data)
    return Evidence(cross_entropy(found, data.labels), found)


def _by_margin(detector, data: LabelledData) -> Evidence:
    found = _predicted(detector, data)
    return Evidence(normalized_margin(found, data.labels), found)


def _predicted(detector, data: LabelledData) -> np.ndarray:
    """Probabilities out of fold where ``cv`` is given, else in sample."""
    if detector.cv is None:
        return _in_sample(detector, data, None)
    _refuse_frozen_folds(detector)
    everything = np.ones(len(data.labels), dtype=bool)
    return _out_of_fold(detector, data, detector.cv, everything, data.seed)


def _by_squared_error(detector, data: LabelledData) -> Evidence:
    y, found = np.asarray(data.y, dtype=np.float64), np.empty(len(data.y))
    if detector.cv is None:
        model = fit_on(detector.estimator, data.X, data.y, None, data.seed)
        found[:] = np.ravel(model.predict(data.X))
    else:
        _refuse_frozen_folds(detector)
        for train, test in fold_list(detector.cv, data.X, data.y, data.seed, False):
            model = fit_on(detector.estimator, data.X, data.y, train, data.seed)
            found[test] = np.ravel(model.predict(take_rows(data.X, test)))
    return Evidence(np.square(y - found))


def _by_self_influence(detector, data: LabelledData) -> Evidence:
    if detector.cv is not None:
        raise ValueError(
            "cv: method='self_influence' is of the model that learned from the row; leave cv at "
            "None, or take method='validation_influence'."
        )
    attributor = _attributor(detector, InfluenceFunction("ekfac"))
    model = fit_on(detector.estimator, data.X, data.y, None, data.seed)
    groups = _groups(detector, attributor, data)
    attributor = fit_groups(attributor, model, data.X, data.y, groups)
    scores = attributor.self_influence()
    scores = scores if groups is None else group_means(scores, groups)
    return Evidence(scores, attributor=attributor)


def _by_validation(detector, data: LabelledData) -> Evidence:
    return _harm(detector, data, InfluenceFunction("ekfac"))


def _by_further_training(detector, data: LabelledData) -> Evidence:
    return _harm(detector, data, FurtherTraining(random_state=data.seed))


def _harm(detector, data: LabelledData, default: Any) -> Evidence:
    """Minus the summed scores for trusted rows, or for rows that other folds hold out."""
    attributor = _attributor(detector, default)
    if data.X_val is None:
        values = held_out_values(
            detector.estimator,
            attributor,
            data.X,
            data.y,
            groups=_groups(detector, attributor, data),
            cv=5 if detector.cv is None else detector.cv,
            seed=data.seed,
            verbose=detector.verbose,
        )
        return Evidence(-values, attributor=attributor)
    if detector.cv is not None:
        raise ValueError("cv: trusted rows (X_val) take the place of folds; leave cv at None.")
    model = fit_on(detector.estimator, data.X, data.y, None, data.seed)
    groups = _groups(detector, attributor, data)
    attributor = fit_groups(attributor, model, data.X, data.y, groups)
    return Evidence(-total_scores(attributor, data.X_val, data.y_val), attributor=attributor)


def _groups(detector, attributor: Any, data: LabelledData) -> np.ndarray | None:
    return row_groups(attributor, detector.estimator, data.X, data.y, data.seed)


def _attributor(detector, default: Any) -> Any:
    return clone(default if detector.attributor is None else detector.attributor)


def _out_of_fold(detector, data, cv, keep, seed) -> np.ndarray:
    folds = fold_list(cv, data.X, data.y, seed, True)
    return fold_probabilities(
        detector.estimator, data.X, data.y, data.classes, folds, keep, seed, detector.n_jobs
    )


def _in_sample(detector, data, rows) -> np.ndarray:
    model = fit_on(detector.estimator, data.X, data.y, rows, data.seed)
    return probabilities(model, data.X, data.classes)


def _refuse_frozen_folds(detector) -> None:
    if is_frozen(detector.estimator):
        raise ValueError(
            "cv: a FrozenEstimator is not fitted again, so that nothing is out of fold. Leave cv "
            "at None, or give the unfitted estimator."
        )


METHODS = {
    "rounds": _by_rounds,
    "loss": _by_loss,
    "margin": _by_margin,
    "self_influence": _by_self_influence,
    "validation_influence": _by_validation,
    "further_training": _by_further_training,
}

#: Methods that ask an attributor.
BY_INFLUENCE = {"self_influence", "validation_influence", "further_training"}


def default_method(estimator: Any) -> str:
    """What method="auto" stands for: "rounds", where the estimator can be fitted again."""
    return "rounds" if is_classifier(estimator) and not is_frozen(estimator) else "loss"
