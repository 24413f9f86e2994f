"""Outputs of models that are asked as they are: by their probabilities, decisions or values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from skorch import NeuralNet

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._has_trees import (
    boosts_trees,
    has_trees,
    inner_model,
    learns_units,
    votes_of,
)
from influencekit.models._task import as_task
from influencekit.models.snapshot._own_predictions import own_methods
from influencekit.utils._suggest import did_you_mean

__all__ = [
    "asked_as_it_is",
    "check_output",
    "estimator_outputs",
    "gives_probabilities",
    "has_gradients",
    "label_probability",
    "says_labels",
    "scores_classes",
]


def has_gradients(model: Any) -> bool:
    """Whether :func:`as_task` reads models of this class with these parameters, fitted or not.

    Parameters
    ----------
    model : object

    Returns
    -------
    bool
        True for nets, and for whatever else is registered unless its parameters are refused.
    """
    model = inner_model(model)
    if as_task.dispatch(type(model)) is as_task.dispatch(object):
        return False
    if isinstance(model, NeuralNet) or not isinstance(model, BaseEstimator):
        return True
    try:
        as_task(clone(model))
    except UnsupportedModelError:
        return False
    except (NotFittedError, AttributeError):  # what an adapter says of a model without a fit
        return True
    return True


def asked_as_it_is(model: Any, output: Any) -> bool:
    """Whether an output is read from a model's own methods, not from its natural outputs.

    Parameters
    ----------
    model : estimator, fitted or not
    output : str or callable

    Returns
    -------
    bool
    """
    if hasattr(output, "of_model") and isinstance(inner_model(model), _WITH_MORE):
        return True  # natural outputs are those of the classifier inside
    if not has_trees(model):
        registered = as_task.registry
        own = any(own_methods(one, registered)[1] for one in (model, inner_model(model)))
        own = own or (not callable(output) and learns_units(model))
        return own or not has_gradients(model)
    if callable(output):  # a function of natural outputs is for trees that TreeInfluence reads
        return hasattr(output, "of_model") or not _takes(output, 2)
    return output != "logit"


def check_output(model: Any, output: Any, has_targets: bool) -> None:
    """Refuse, before any training, an output that models of this kind do not have.

    Parameters
    ----------
    model : estimator
        What is trained; need not be fitted.
    output : str or callable
    has_targets : bool
        Whether the queries have targets.

    Raises
    ------
    ValueError
    """
    last = inner_model(model)
    as_it_is = asked_as_it_is(model, output)
    if callable(output):
        _check_function(output, last, as_it_is and not hasattr(output, "of_model"))
    elif as_it_is or not (isinstance(last, NeuralNet) or _kind(last) == "other"):
        _check_name(output, last, _FORM if as_it_is else _FORM_OF_OUTPUTS)
        if not has_targets and output not in ("auto", "prediction"):
            raise ValueError(
                f"y_query: got None, but output={output!r} needs the targets of the queries. "
                "Give y_query, or take output='prediction'."
            )


def _check_name(output: Any, model: Any, form: str) -> None:
    kind = _kind(model)
    accepted = _NAMES.get(kind, ())
    if kind == "classification" and not (gives_probabilities(model) or _decides(model)):
        kind, accepted = "labels", ("auto", "neg_loss")
    if output not in accepted:
        known = f"{list(accepted)} or " if accepted else ""
        raise ValueError(
            f"output: got {output!r}; {type(model).__name__} is {_KINDS[kind]}, for which "
            f"accepted are {known}a function {form}.{did_you_mean(output, accepted)}"
        )


def estimator_outputs(model: Any, X: Any, y: Any, output: Any) -> np.ndarray:
    """Outputs of a fitted model, by its ``predict_proba``, ``decision_function`` or ``predict``.

    Parameters
    ----------
    model : fitted estimator
    X : array-like of n rows
    y : array-like of shape (n,) or None
        Labels as the model takes them; None for the prediction of a regressor.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable
        "neg_loss" is the logarithm of the label's probability; for classifiers without
        probabilities minus the hinge loss of their decisions, else minus the 0/1 error; for
        regressors minus the squared error.  A callable is ``output(model, X, y) -> (n,)``.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If the model does not have the output, or the function gives something else.
    """
    if callable(output):
        values = getattr(output, "of_model", output)(model, X, y)
        return _one_number_each(values, _count(X))
    check_output(model, output, y is not None)
    y = None if y is None else np.asarray(y)
    if output == "auto":
        output = "neg_loss" if y is not None else "prediction"
    if _kind(model) == "regression":
        return _value_output(model, X, y, output)
    return _class_output(model, X, y, output)


#: Classifiers whose answers are not those of the classifier inside: calibrated, another threshold.
_WITH_MORE = (CalibratedClassifierCV, FixedThresholdClassifier, TunedThresholdClassifierCV)
_FORM = "output(model, X, y) -> (n,)"
_FORM_OF_OUTPUTS = "output(outputs, targets) -> (n,)"
_NAMES = {
    "classification": ("auto", "neg_loss", "margin", "logit"),
    "regression": ("auto", "neg_loss", "prediction"),
}
_KINDS = {
    "classification": "a classifier",
    "regression": "a regressor",
    "labels": "a classifier with neither probabilities nor decisions",
    "other": "neither a classifier nor a regressor",
}


def _kind(model: Any) -> str:
    if is_classifier(model):
        return "classification"
    return "regression" if is_regressor(model) else "other"


def _takes(function: Callable, n_arguments: int) -> bool:
    """Whether a function accepts this number of arguments; True if that cannot be known."""
    try:
        inspect.signature(function).bind(*range(n_arguments))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _check_function(output: Callable, model: Any, of_model: bool) -> None:
    name = type(model).__name__
    if _takes(output, 3 if of_model else 2) or hasattr(output, "of_model"):
        return
    if of_model:
        raise ValueError(
            f"output: the function does not take three arguments. {name} has no gradients, and a "
            f"function of such a model is {_FORM}, for instance "
            "output=lambda model, X, y: model.predict(X)."
        )
    raise ValueError(
        f"output: the function does not take two arguments. {name} has gradients, and a function "
        f"of such a model is {_FORM_OF_OUTPUTS} on its natural outputs."
    )


def _one_number_each(values: Any, n: int) -> np.ndarray:
    found = np.asarray(values)
    if found.shape == (n,) and found.dtype.kind in "fiub":
        return found.astype(np.float64)
    raise ValueError(
        f"output: the function returned shape {found.shape} of dtype {found.dtype} for {n} "
        f"examples; accepted is one number for each example, shape ({n},)."
    )


def _count(X: Any) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _value_output(model: Any, X: Any, y: np.ndarray | None, output: str) -> np.ndarray:
    """Prediction of a regressor, or minus its squared error; half of it for boosted trees."""
    predicted = np.asarray(model.predict(X), dtype=np.float64).reshape(_count(X), -1)
    if output == "prediction":
        if predicted.shape[1] != 1:
            raise ValueError(
                "output='prediction': this is one number for each example, but "
                f"{type(model).__name__} has {predicted.shape[1]} outputs. Pass a function {_FORM}."
            )
        return predicted[:, 0]
    errors = np.square(np.asarray(y, dtype=np.float64).reshape(predicted.shape) - predicted)
    return -(0.5 if boosts_trees(model) else 1.0) * errors.sum(axis=1)


def _class_output(model: Any, X: Any, y: Any, output: str) -> np.ndarray:
    if gives_probabilities(model) and not (output == "logit" and _decides(model)):
        own, others, floor = _probabilities(model, X, y)
        logarithm = np.log(np.maximum(own, floor))
        return logarithm - np.log(np.maximum(others, floor)) if output == "margin" else logarithm
    if _decides(model):
        own, others = _decisions(model, X, y)
        if output == "logit":
            return own
        margin = own - others
        return margin if output == "margin" else -np.maximum(0.0, 1.0 - margin)
    return -(np.asarray(model.predict(X)) != y).astype(np.float64)


def scores_classes(model: Any, output: Any) -> bool:
    """Whether an output needs a decision value for every class, which a class not seen has not.

    Parameters
    ----------
    model : estimator
    output : str or callable

    Returns
    -------
    bool
    """
    return not callable(output) and not gives_probabilities(model) and _decides(model)


def gives_probabilities(model: Any) -> bool:
    """Whether an estimator has ``predict_proba``, or will have it when it is fitted.

    Parameters
    ----------
    model : estimator

    Returns
    -------
    bool
    """
    return _has(model, "predict_proba")


def says_labels(model: Any) -> bool:
    """Whether a classifier has neither probabilities nor decisions, such as a hard vote.

    Parameters
    ----------
    model : estimator

    Returns
    -------
    bool
    """
    return is_classifier(model) and not gives_probabilities(model) and not _decides(model)


def _decides(model: Any) -> bool:
    return _has(model, "decision_function")


def _has(model: Any, method: str) -> bool:
    """Whether an estimator has a method; a stack that is not fitted has those of its last model."""
    last = inner_model(model)
    if hasattr(last, "final_estimator") and not hasattr(last, "final_estimator_"):
        final = last.final_estimator
        return _has(LogisticRegression() if final is None else final, method)
    return hasattr(last, method)


def label_probability(model: Any, X: Any, y: Any) -> np.ndarray:
    """Probability of each row's label by an estimator's ``predict_proba``.

    Parameters
    ----------
    model : fitted estimator
    X : array-like of n rows
    y : array-like of shape (n,)

    Returns
    -------
    ndarray of shape (n,)
        0 for a label that the model never saw.
    """
    return _probabilities(model, X, np.asarray(y))[0]


def _columns(classes: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column of each label, and whether the model knows the label."""
    columns = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return columns, classes[columns] == y


def _probabilities(model: Any, X: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Probability of each label, of all other classes together, and the least that counts.

    The probability of a label that the model never saw is 0.
    """
    found = model.predict_proba(X)
    found = np.asarray(found) if not isinstance(found, list) else np.empty(0)
    if found.ndim != 2 or y.ndim != 1:
        raise ValueError(
            f"output: {type(model).__name__} gives several labels an example, which have no one "
            f"probability. Pass a function {_FORM}."
        )
    columns, known = _columns(np.asarray(model.classes_), y)
    rows, floor = np.arange(len(y)), _floor(inner_model(model), found.dtype)
    found = found.astype(np.float64)
    own = np.where(known, found[rows, columns], 0.0)
    found[rows[known], columns[known]] = 0.0
    return own, found.sum(axis=1), floor


def _floor(model: Any, dtype: np.dtype) -> float:
    """The least probability that logarithms are taken of.

    Half a vote where votes are counted; else the resolution of the numbers, as in
    :func:`sklearn.metrics.log_loss`.
    """
    votes = votes_of(model)
    if votes:
        return 0.5 / votes
    eps = float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)
    if hasattr(model, "estimators_features_"):  # Bagging: a mean over its members
        return _floor(model.estimators_[0], dtype) / len(model.estimators_)
    return eps


def _decisions(model: Any, X: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decision value of each label, and the highest one of the others; 0 for two classes."""
    values, classes = np.asarray(model.decision_function(X), np.float64), np.asarray(model.classes_)
    columns, known = _columns(classes, y)
    if not known.all():
        raise ValueError(
            f"masks: a model retrained on a subset without the class {y[~known][0]!r} of y_query "
            "has no decision for it. Take masks that hold every class."
        )
    if values.ndim == 1:
        return np.where(columns == 1, values, -values), np.zeros(len(y))
    pairs = getattr(inner_model(model), "decision_function_shape", "ovr") == "ovo"
    if values.shape[1] != len(classes) or pairs:
        raise ValueError(
            f"output: the decisions of {type(model).__name__} are of pairs of classes, shape "
            f"{values.shape}. Set decision_function_shape='ovr', or pass a function {_FORM}."
        )
    rows = np.arange(len(y))
    own = values[rows, columns]
    values[rows, columns] = -np.inf
    return own, values.max(axis=1)
