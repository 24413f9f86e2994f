"""The methods of NoisyLabelDetector: each makes a score for every labeled row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from influencekit.applications._fitting import (
    checked_labels,
    fit_on,
    fold_list,
    fold_probabilities,
    is_frozen,
    no_probabilities,
    predicted,
)
from influencekit.applications._label_probabilities import (
    cross_entropy,
    kept_rows,
    normalized_margin,
)
from influencekit.applications._values import (
    check_detector,
    check_reads,
    default_attributor,
    fit_groups,
    group_means,
    held_out_values,
    row_groups,
    total_scores,
)
from influencekit.attributors.further._further_training import FurtherTraining
from influencekit.data._inputs import check_sample_weight
from influencekit.groups._labels import encode_labels, group_values
from influencekit.models._estimator_outputs import gives_probabilities
from influencekit.training.estimator._rows import count_rows
from influencekit.utils._long_work import progress
from influencekit.utils.validation import present

__all__ = [
    "BY_INFLUENCE",
    "METHODS",
    "LabeledData",
    "check_count",
    "method_in_use",
]


#: What works for estimators that attributors cannot read.
_WITHOUT_GRADIENTS = "What needs no gradients takes it: method='auto'."


@dataclass
class LabeledData:
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
    sample_weight : ndarray of shape (n,) or None
    groups : ndarray of int of shape (n,) or None
        Rows that are held out together.
    """

    X: Any
    y: Any
    classes: np.ndarray | None
    labels: np.ndarray | None
    X_val: Any = None
    y_val: Any = None
    seed: int = 0
    sample_weight: np.ndarray | None = None
    groups: np.ndarray | None = None

    @property
    def given_labels(self) -> np.ndarray:
        """``labels`` of a classification."""
        return present(self.labels, "labels")

    @property
    def given_classes(self) -> np.ndarray:
        """``classes`` of a classification."""
        return present(self.classes, "classes")

    @classmethod
    def checked(
        cls,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        classifier: bool,
        seed: int,
        sample_weight: Any = None,
        groups: Any = None,
    ) -> LabeledData:
        """Data with consistent lengths and, for a classifier, two classes or more."""
        y, n = checked_labels(X, y, classifier), count_rows(X)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, n)
        if groups is not None:
            groups = encode_labels(group_values(groups, n, "groups"))[0]
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val, y_val: got only one of the two; give both or neither.")
        if X_val is not None:
            y_val = checked_labels(X_val, y_val, classifier, ("X_val", "y_val"))
        if not classifier:
            return cls(X, y, None, None, X_val, y_val, seed, sample_weight, groups)
        classes, labels = np.unique(np.asarray(y), return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y: got only one class, {classes.tolist()}; accepted are at least two classes."
            )
        return cls(X, y, classes, labels, X_val, y_val, seed, sample_weight, groups)


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


def _by_rounds(detector: Any, data: LabeledData) -> Evidence:
    """In every round out-of-fold probabilities, and those of one fit on the rows kept."""
    if is_frozen(detector.estimator):
        raise ValueError(
            "method: 'rounds' fits the estimator many times, but a FrozenEstimator stays as it is. "
            "Give the unfitted estimator, or use method='loss'."
        )
    labels = data.given_labels
    cv = 5 if detector.cv is None else detector.cv
    keep, found = np.ones(len(labels), dtype=bool), []
    for step in progress(range(detector.n_rounds + 1), "rounds", detector.verbose):
        found.append(_out_of_fold(detector, data, cv, keep, data.seed + step))
        keep = kept_rows(found[-1], labels)
        found.append(_in_sample(detector, data, np.flatnonzero(keep), data.seed + step))
    mean = np.mean(found, axis=0)
    return Evidence(cross_entropy(mean, labels), mean)


def _by_loss(detector: Any, data: LabeledData) -> Evidence:
    found = _predicted(detector, data)
    if data.labels is None:
        return Evidence(np.square(np.ravel(data.y).astype(np.float64) - found))
    return Evidence(cross_entropy(found, data.labels), found)


def _by_margin(detector: Any, data: LabeledData) -> Evidence:
    found = _predicted(detector, data)
    return Evidence(normalized_margin(found, data.given_labels), found)


def _predicted(detector: Any, data: LabeledData) -> np.ndarray:
    """Probabilities, or values of a regressor, out of fold where ``cv`` is given."""
    if detector.cv is None:
        return _in_sample(detector, data, None, data.seed)
    _refuse_frozen_folds(detector)
    everything = np.ones(len(data.y), dtype=bool)
    return _out_of_fold(detector, data, detector.cv, everything, data.seed)


def _by_self_influence(detector: Any, data: LabeledData) -> Evidence:
    if detector.cv is not None:
        raise ValueError(
            "cv: method='self_influence' is of the model that learned from the row; leave cv at "
            "None, or take method='validation_influence'."
        )
    attributor, groups = _asked(detector, data, default_attributor(detector.estimator))
    attributor = _fitted(detector, data, attributor, groups)
    scores = attributor.self_influence()
    scores = scores if groups is None else group_means(scores, groups)
    return Evidence(scores, attributor=attributor)


def _by_validation(detector: Any, data: LabeledData) -> Evidence:
    return _harm(detector, data, default_attributor(detector.estimator))


def _by_further_training(detector: Any, data: LabeledData) -> Evidence:
    return _harm(detector, data, FurtherTraining(random_state=data.seed))


def _harm(detector: Any, data: LabeledData, default: Any) -> Evidence:
    """Minus the summed scores for trusted rows, or for rows that other folds hold out."""
    if data.X_val is not None and detector.cv is not None:
        raise ValueError("cv: trusted rows (X_val) take the place of folds; leave cv at None.")
    attributor, groups = _asked(detector, data, default)
    if data.X_val is None:
        values = held_out_values(
            detector.estimator,
            attributor,
            data.X,
            data.y,
            groups=groups,
            cv=5 if detector.cv is None else detector.cv,
            seed=data.seed,
            verbose=detector.verbose,
            sample_weight=data.sample_weight,
            fold_groups=data.groups,
        )
        return Evidence(-values, attributor=attributor)
    attributor = _fitted(detector, data, attributor, groups)
    return Evidence(-total_scores(attributor, data.X_val, data.y_val), attributor=attributor)


def _asked(detector: Any, data: LabeledData, default: Any) -> tuple[Any, np.ndarray | None]:
    """The attributor to ask, and the groups of rows that it scores."""
    attributor = clone(default if detector.attributor is None else detector.attributor)
    check_reads(attributor, detector.estimator, _WITHOUT_GRADIENTS)
    groups = row_groups(
        attributor, detector.estimator, data.X, data.y, data.seed, data.sample_weight
    )
    return attributor, groups


def _fitted(detector: Any, data: LabeledData, attributor: Any, groups: np.ndarray | None) -> Any:
    """The attributor, fitted on a model of all rows."""
    model = fit_on(detector.estimator, data.X, data.y, None, data.seed, data.sample_weight)
    return fit_groups(attributor, model, data.X, data.y, groups, data.sample_weight)


def _out_of_fold(detector: Any, data: LabeledData, cv: Any, keep: Any, seed: int) -> np.ndarray:
    folds = fold_list(cv, data.y, seed, data.classes is not None, data.groups)
    return fold_probabilities(
        detector.estimator,
        data.X,
        data.y,
        data.classes,
        folds,
        keep,
        seed,
        detector.n_jobs,
        data.sample_weight,
    )


def _in_sample(detector: Any, data: LabeledData, rows: np.ndarray | None, seed: int) -> np.ndarray:
    model = fit_on(detector.estimator, data.X, data.y, rows, seed, data.sample_weight)
    return predicted(model, data.X, data.classes)


def _refuse_frozen_folds(detector: Any) -> None:
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


def check_count(detector: Any, method: str) -> None:
    """Refuse to judge rows by a method that only ranks them."""
    ranks = method == "loss" and not is_classifier(detector.estimator)
    if detector.contamination == "auto" and (ranks or method == "self_influence"):
        raise ValueError(
            f"contamination='auto': scores of method={method!r} have no natural threshold here, "
            "so that rows are only ranked. Give the share of rows to suspect, such as "
            "contamination=0.1."
        )


def method_in_use(detector: Any) -> str:
    """The detector's method, after refusing what its estimator or attributor cannot do.

    "auto" stands for "rounds", where the estimator can be fitted again, else for "loss".
    """
    estimator, method = detector.estimator, detector.method
    classifies = is_classifier(estimator)
    if method == "auto":
        method = "rounds" if classifies and not is_frozen(estimator) else "loss"
    if method in BY_INFLUENCE:
        check_detector(detector.attributor, method, detector.grouper)
    elif classifies and not gives_probabilities(estimator):
        raise no_probabilities(estimator)
    return method
