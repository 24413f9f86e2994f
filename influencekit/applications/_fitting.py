"""Estimators fitted on some of the rows, and what they predict for others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv
from sklearn.utils import get_tags
from skorch import NeuralNet

from influencekit.applications._label_probabilities import way_to_probabilities
from influencekit.data._targets import one_column
from influencekit.training._randomness import seeded, untouched
from influencekit.training.estimator._recipe import (
    device_of,
    fresh_copy,
    match_net_dtype,
    weighted_fit,
)
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.training.subsets._engines import last_step
from influencekit.utils._parallel import shared_out

__all__ = [
    "check_estimator",
    "check_features",
    "check_labeled",
    "checked_labels",
    "fit_on",
    "fold_list",
    "fold_probabilities",
    "inherit_tags",
    "is_frozen",
    "label_positions",
    "no_probabilities",
    "predicted",
    "refuse_diverged",
    "remember_features",
    "with_rows",
]


def is_frozen(estimator: Any) -> bool:
    """Whether the estimator is fitted already and is to stay as it is."""
    return isinstance(estimator, FrozenEstimator)


def check_estimator(estimator: Any) -> None:
    """Refuse what cannot be fitted, a class in place of an instance among it."""
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise TypeError(
            f"estimator: got {estimator!r}; accepted is an estimator with fit, such as a "
            "scikit-learn model, a Pipeline or a skorch net."
        )


def check_labeled(X: Any, y: Any, names: tuple[str, str] = ("X", "y")) -> int:
    """Number of rows of X and y, after looking that they are as many.

    Raises
    ------
    ValueError
        If ``y`` is missing, has another length, is not one value a row, or is not finite.
    """
    if y is None:
        raise ValueError(
            f"{names[1]}: got None; the labels are needed, since it is they that are judged. This "
            "estimator requires y to be passed, but the target y is None."
        )
    if hasattr(X, "fit"):
        raise TypeError(
            f"{names[0]}: got the estimator {type(X).__name__}; accepted are rows of data. The "
            "estimator comes before them, as in NoisyLabelDetector(estimator).fit(X, y)."
        )
    n, labels = count_rows(X), np.asarray(y)
    if labels.shape not in ((n,), (n, 1)):
        one_hot = labels.ndim == 2 and len(labels) == n and labels.shape[1] > 1
        raise ValueError(
            f"{names[1]}: got shape {labels.shape} beside {n} rows of {names[0]}; accepted is one "
            f"label for each row, shape ({n},) or ({n}, 1)."
            + (f" Use {names[1]}.argmax(axis=1) for one-hot rows." if one_hot else "")
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{names[1]}: holds NaN or infinity; accepted are finite labels.")
    if labels.dtype == object and any(label is None or label != label for label in labels.flat):
        raise ValueError(f"{names[1]}: holds missing labels; drop those rows, or name them.")
    return n


def checked_labels(X: Any, y: Any, classifier: bool, names: tuple[str, str] = ("X", "y")) -> Any:
    """One label for each row, as it is trained on: of a classifier a vector, never a column."""
    y = one_column(with_rows(y))
    check_labeled(X, y, names)
    return np.ravel(y) if classifier and np.ndim(y) == 2 else y


def label_positions(X: Any, y: Any, classes: np.ndarray | None) -> np.ndarray:
    """Positions among ``classes`` of the labels of new rows; of a regressor the targets.

    Raises
    ------
    ValueError
        If there is not one label for each row, or one is not among ``classes``.
    """
    y = np.ravel(checked_labels(X, y, classes is not None))
    if classes is None:
        return y.astype(np.float64)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y: holds {unknown.tolist()}, not among the classes {classes.tolist()} that fit saw."
        )
    return np.searchsorted(classes, y)


def with_rows(X: Any) -> Any:
    """An array of what only numpy can read; anything with a shape or a length as it is."""
    bare = hasattr(X, "__array__") and not hasattr(X, "shape") and not hasattr(X, "__len__")
    return np.asarray(X) if bare else X


def inherit_tags(tags: Any, estimator: Any) -> Any:
    """Tags of a meta-estimator: labels are needed, inputs are what its estimator takes."""
    tags.target_tags.required = True
    if hasattr(estimator, "__sklearn_tags__"):
        own = get_tags(estimator).input_tags
        tags.input_tags.sparse, tags.input_tags.allow_nan = own.sparse, own.allow_nan
    return tags


def remember_features(fitted: Any, X: Any) -> None:
    """Set ``n_features_in_`` where the rows of X are vectors."""
    if hasattr(X, "shape") and len(X.shape) == 2:
        fitted.n_features_in_ = int(X.shape[1])


def check_features(fitted: Any, X: Any) -> None:
    """Refuse rows with another number of features than those of the fit.

    Raises
    ------
    ValueError
    """
    expected = getattr(fitted, "n_features_in_", None)
    if expected is None or not hasattr(X, "shape") or len(X.shape) != 2 or X.shape[1] == expected:
        return
    raise ValueError(
        f"X has {X.shape[1]} features, but {type(fitted).__name__} is expecting {expected} "
        "features as input."
    )


def fit_on(
    estimator: Any,
    X: Any,
    y: Any,
    rows: np.ndarray | None,
    seed: int,
    sample_weight: np.ndarray | None = None,
) -> Any:
    """A copy of the estimator fitted on some rows; a FrozenEstimator as it is.

    Parameters
    ----------
    estimator : estimator
    X, y : array-like
    rows : ndarray of int, or None for all
    seed : int
        Seed for every ``random_state`` inside, and for torch with nets.
    sample_weight : ndarray of shape (n,) or None, default=None
        Weights of all rows.

    Returns
    -------
    fitted estimator

    Raises
    ------
    ValueError
        If training diverged.
    """
    if is_frozen(estimator):
        return estimator
    if hasattr(y, "to_numpy"):  # skorch would read a Series row by row
        y = y.to_numpy()
    if rows is not None:
        X, y = take_rows(X, rows), take_rows(y, rows)
        sample_weight = take_rows(sample_weight, rows)
    copy = fresh_copy(estimator, seed)
    with seeded(seed, device_of(copy)):
        data = match_net_dtype(X, estimator), match_net_dtype(y, estimator)
        fitted = weighted_fit(copy, *data, sample_weight)
    refuse_diverged(fitted, X, f"under seed {seed} on {count_rows(X):,} rows")
    return fitted


def refuse_diverged(model: Any, X: Any, which: str) -> None:
    """Refuse a fitted model whose training diverged, where its parameters show it.

    Parameters
    ----------
    model : fitted estimator
    X : array-like
        What it was fitted on.
    which : str
        Which fit it was.

    Raises
    ------
    ValueError
        If a parameter is NaN or infinite.
    """
    name = _not_finite(last_step(model))
    if name is not None:
        _refuse_nan_in(X, model, f"its parameter {name!r}")
        raise ValueError(
            f"estimator: its parameter {name!r} holds NaN or infinity after training {which}. "
            "Training has diverged: lower the learning rate, scale the features, or clip gradients."
        )


def _refuse_nan_in(X: Any, model: Any, where: str) -> None:
    """Say that it is the data that hold NaN, if they do."""
    if _holds_nan(X):
        raise ValueError(
            f"X: holds NaN or infinity, and {type(model).__name__} carried it into {where}. "
            "Impute it, for instance by a SimpleImputer in a Pipeline."
        )


def _not_finite(model: Any) -> str | None:
    """Name of a parameter of a net, linear model or MLP that is not finite; None if all are."""
    if isinstance(model, NeuralNet):
        named = model.module_.state_dict().items()
        floats = ((name, t) for name, t in named if t.is_floating_point())
        return next((name for name, t in floats if not bool(torch.isfinite(t).all())), None)
    for name in ("coef_", "intercept_", "coefs_", "intercepts_"):
        values = vars(model).get(name, 0.0)
        for part in values if isinstance(values, list) else [values]:
            if _holds_nan(part):
                return name
    return None


def fold_list(
    cv: Any, y: Any, seed: int, classifier: bool, groups: np.ndarray | None = None
) -> list:
    """Pairs of training and held-out rows; an int is that many shuffled folds.

    Rows of a group are held out together, by an int or by a splitter that looks at groups.

    Raises
    ------
    ValueError
        If a row is held out never or more than once, or there are fewer groups than folds.
    """
    splitter = check_cv(cv, y=np.asarray(y), classifier=classifier)
    if isinstance(cv, (int, np.integer)):
        kind = type(splitter)
        if groups is not None:
            kind = StratifiedGroupKFold if classifier else GroupKFold
            _check_enough(groups, int(cv))
        splitter = kind(int(cv), shuffle=True, random_state=seed)
    n = count_rows(y)
    splits = splitter.split(np.zeros((n, 1)), y, groups)
    try:
        folds = [(np.asarray(a), np.asarray(b)) for a, b in splits]
    except ValueError as error:
        raise ValueError(
            f"cv: got {cv!r}, which cannot split {n} rows ({error}). Give fewer folds."
        ) from error
    held_out = np.sort(np.concatenate([test for _, test in folds]))
    if not np.array_equal(held_out, np.arange(n)):
        raise ValueError(
            f"cv: {splitter!r} does not hold out every row exactly once; accepted is an int or a "
            "splitter such as KFold or StratifiedKFold."
        )
    return folds


def _check_enough(groups: np.ndarray, n_folds: int) -> None:
    """Refuse fewer groups than folds."""
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        raise ValueError(
            f"groups: got {n_groups} groups for {n_folds} folds; accepted are at least as many. "
            f"Set cv={max(2, n_groups)}, or split large groups."
        )


def fold_probabilities(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    classes: np.ndarray | None,
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
    keep: np.ndarray,
    seed: int,
    n_jobs: int | None = None,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Prediction of each row by a model that was fitted on other rows, see :func:`predicted`.

    Parameters
    ----------
    estimator : estimator
    X, y : array-like of n rows
    classes : ndarray of shape (n_classes,), or None for regressors
    folds : iterable of (training rows, held-out rows)
    keep : ndarray of bool of shape (n,)
        Rows that may be fitted on; the others are predicted only.
    seed : int
    n_jobs : int or None, default=None
    sample_weight : ndarray of shape (n,) or None, default=None

    Returns
    -------
    ndarray of shape (n, n_classes), or (n,) for regressors
    """
    X, y = match_net_dtype(X, estimator), match_net_dtype(y, estimator)
    estimator = clone(estimator)  # a fitted net cannot go to workers
    sent = [(train[keep[train]], test) for train, test in folds]
    shared = {"X": X, "y": y, "classes": classes, "seed": seed, "sample_weight": sample_weight}
    found = np.empty(len(y) if classes is None else (len(y), len(classes)))
    for fold, values in shared_out(_held_out, sent, n_jobs, estimator=estimator, **shared):
        found[sent[fold][1]] = values
    return found


def _held_out(
    fold: tuple[np.ndarray, np.ndarray],
    estimator: Any,
    X: Any,
    y: Any,
    classes: Any,
    seed: int,
    sample_weight: Any,
) -> np.ndarray:
    train, test = fold
    model = fit_on(estimator, X, y, train, seed, sample_weight)
    return predicted(model, take_rows(X, test), classes)


def predicted(model: Any, X: Any, classes: np.ndarray | None) -> np.ndarray:
    """Probabilities of the classes, or a regressor's values."""
    if classes is not None:
        return probabilities(model, X, classes)
    return np.ravel(model.predict(match_net_dtype(X, model)))


def no_probabilities(model: Any) -> TypeError:
    """What is said of a classifier without ``predict_proba``."""
    return TypeError(
        f"estimator: {type(model).__name__} does not have class probabilities (predict_proba). "
        f"Use a classifier that has them, or {way_to_probabilities(model)}."
    )


def _holds_nan(X: Any) -> bool:
    """Whether an array or DataFrame of numbers is not finite."""
    values = np.asarray(getattr(X, "data", X) if hasattr(X, "tocsr") else X)
    return values.dtype.kind == "f" and not np.isfinite(values).all()


def probabilities(model: Any, X: Any, classes: np.ndarray) -> np.ndarray:
    """Probability of each of ``classes``; 0 for one that the model never saw.

    Raises
    ------
    TypeError
        If the model gives no probabilities.
    ValueError
        If they are not finite.
    """
    if not is_classifier(model) or not hasattr(model, "predict_proba"):
        raise no_probabilities(model)
    with untouched(device_of(model)):  # a net's loader draws from the global generator
        values = np.asarray(model.predict_proba(match_net_dtype(X, model)), dtype=np.float64)
    if not np.isfinite(values).all():
        _refuse_nan_in(X, model, "its probabilities")
        raise ValueError(
            "estimator: predict_proba gave NaN or infinity. Training has diverged: lower the "
            "learning rate or scale the features."
        )
    if isinstance(last_step(getattr(model, "estimator", model)), NeuralNet):
        return values[:, classes]  # a net's columns are its labels
    found = np.zeros((len(values), len(classes)))
    found[:, np.searchsorted(classes, model.classes_)] = values
    return found
