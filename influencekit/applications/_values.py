"""Value of training rows: their scores summed over examples that the model did not learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet

from influencekit.applications._fitting import fit_on, fold_list, is_frozen
from influencekit.applications._label_probabilities import way_to_probabilities
from influencekit.attributors.influence._influence_function import InfluenceFunction
from influencekit.attributors.trees._tree_influence import TreeInfluence
from influencekit.data._examples import make_examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.groups._group_attributor import GroupAttributor
from influencekit.groups._groupers import RandomGrouper
from influencekit.groups._holders import check_held
from influencekit.models._estimator_outputs import gives_probabilities
from influencekit.models._has_trees import has_trees, inner_model
from influencekit.models.adapters.meta._calibrated import members_of
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.utils._long_work import chunks, progress

__all__ = [
    "check_attributor",
    "check_detector",
    "check_reads",
    "default_attributor",
    "fit_groups",
    "held_out_values",
    "row_groups",
    "total_scores",
]


def check_attributor(attributor: Any, holder: str) -> None:
    """Refuse, before any work, an attributor that gives rows or groups no value.

    Parameters
    ----------
    attributor : attributor or None
    holder : str
        For the message.

    Raises
    ------
    ValueError
    """
    if attributor is None:
        return
    check_held(attributor, holder)
    if attributor._grouped is not None and not isinstance(attributor, GroupAttributor):
        raise ValueError(
            f"attributor: got {type(attributor).__name__} around a GroupAttributor, but {holder} "
            "groups all rows once and fits on some of them. Put the groups outside: "
            "GroupAttributor(SurrogateLambdaSearchCV(InfluenceFunction()), grouper)."
        )


def default_attributor(estimator: Any) -> Any:
    """The attributor where none is given: TreeInfluence for trees, else InfluenceFunction.

    It explains the margin of a classifier.  The rows that are asked may have wrong labels, and
    those rule a sum of losses: their loss is steep where that of right ones is flat.
    """
    output = "margin" if is_classifier(inner_model(estimator)) else "auto"
    if has_trees(estimator):
        return TreeInfluence(output=output)
    return InfluenceFunction("ekfac", output=output)


def check_reads(attributor: Any, estimator: Any, way_out: str) -> None:
    """Refuse, before any fit, an attributor that has no way to read models of an estimator.

    Parameters
    ----------
    attributor : attributor
    estimator : estimator
    way_out : str
        What the user may do, for the message.

    Raises
    ------
    UnsupportedModelError
    """
    last = inner_model(estimator)
    if isinstance(last, NeuralNet) or not isinstance(last, BaseEstimator):
        return
    try:
        if members_of(clone(last)) is None:  # several classifiers are read one by one
            attributor._task_of(clone(last))
    except UnsupportedModelError as error:
        other = has_trees(last) and not isinstance(attributor, TreeInfluence)
        trees = " For trees take attributor=TreeInfluence()." if other else ""
        if is_classifier(last) and not gives_probabilities(last):
            way = way_to_probabilities(last)
            way_out = f"{way[0].upper()}{way[1:]}. {way_out}"
        raise UnsupportedModelError(
            f"attributor: {type(attributor).__name__} cannot read {type(last).__name__}.{trees} "
            f"{way_out} ({error})"
        ) from error
    except (NotFittedError, AttributeError):  # what a reader says of a model without a fit
        return


def check_detector(attributor: Any, method: str, grouper: Any) -> None:
    """Refuse what NoisyLabelDetector cannot ask of an attributor.

    Parameters
    ----------
    attributor : attributor or None
    method : str
    grouper : grouper or None
        The detector's own.

    Raises
    ------
    ValueError
    """
    check_attributor(attributor, "NoisyLabelDetector")
    if not isinstance(attributor, GroupAttributor):
        return
    if grouper is not None:
        raise ValueError(
            "grouper: got one together with a GroupAttributor, which has its own; accepted is one "
            "of the two. Leave grouper at None, or give the attributor of single examples."
        )
    if method == "self_influence" and attributor.curvature == "groups":
        raise ValueError(
            "method: 'self_influence' is of single rows, which curvature='groups' does not score. "
            "Take curvature='points', or method='validation_influence'."
        )


def row_groups(
    attributor: Any,
    estimator: Any,
    X: Any,
    y: Any,
    seed: int,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray | None:
    """Group of every row, by the grouper of a GroupAttributor.

    Parameters
    ----------
    attributor : attributor or None
    estimator : estimator
        Fitted on all rows, where there is a grouper to look at it.
    X, y : array-like of n rows
    seed : int
        Seed for the fit, and for a grouper without its own seed.
    sample_weight : ndarray of shape (n,) or None, default=None

    Returns
    -------
    ndarray of int of shape (n,), or None for an attributor of single rows
    """
    if not isinstance(attributor, GroupAttributor):
        return None
    if attributor.grouper is None:
        return np.arange(len(np.asarray(y)))
    task = attributor._task_of(fit_on(estimator, X, y, None, seed, sample_weight))
    grouped = clone(attributor)
    if grouped.get_params().get("grouper__random_state", seed) is None:
        grouped.set_params(grouper__random_state=seed)
    grouped._partition(task, X, y, make_examples(task, X, y))
    return grouped.labels_


def fit_groups(
    attributor: Any,
    model: Any,
    X: Any,
    y: Any,
    groups: np.ndarray | None,
    sample_weight: np.ndarray | None = None,
) -> Any:
    """A clone fitted on some rows, with the groups that all rows were given.

    Parameters
    ----------
    attributor : attributor
    model : fitted model
    X, y : array-like
    groups : ndarray of int or None
        Of these rows; None for an attributor of single rows.
    sample_weight : ndarray or None, default=None
        Of these rows.

    Returns
    -------
    fitted attributor
    """
    fitted = clone(attributor)
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    if groups is None:
        return fitted.fit(model, X, y, **weights)
    by_groups = fitted.curvature == "groups"
    if by_groups and fitted.fisher_form == "auto" and isinstance(fitted.grouper, RandomGrouper):
        fitted.set_params(fisher_form="sum")
    return fitted.set_params(grouper=None).fit(model, X, y, groups=groups, **weights)


def row_shares(fitted: Any, values: np.ndarray) -> np.ndarray:
    """Values of groups as those of their rows: each has an equal share of its group's.

    Parameters
    ----------
    fitted : fitted attributor
    values : ndarray of shape (n_columns,)

    Returns
    -------
    ndarray of shape (n_train,)
    """
    if not isinstance(fitted, GroupAttributor):
        return values
    shares = values if fitted.reduce == "mean" else values / fitted.group_sizes_
    return shares[fitted.labels_]


#: Number of scores held in memory at once.
_SCORES = 2**24


def total_scores(attributor: Any, X: Any, y: Any) -> np.ndarray:
    """Scores of each training row summed over examples, without holding the whole matrix.

    A group's rows have equal shares of its score.

    Parameters
    ----------
    attributor : fitted attributor
    X, y : array-like of n_test examples

    Returns
    -------
    ndarray of shape (n_train,)
    """
    total = np.zeros(attributor._columns()[0])
    for some in chunks(count_rows(X), attributor.n_train_, _SCORES):
        rows = np.arange(some.start, some.stop)
        total += attributor.score(take_rows(X, rows), take_rows(y, rows)).sum(axis=0)
    return row_shares(attributor, total)


def held_out_values(
    estimator: Any,
    attributor: Any,
    X: Any,
    y: Any,
    *,
    groups: np.ndarray | None = None,
    cv: Any = 5,
    seed: int = 0,
    verbose: int = 0,
    sample_weight: np.ndarray | None = None,
    fold_groups: np.ndarray | None = None,
) -> np.ndarray:
    """Mean predicted effect of each row on examples of the folds that it was not in.

    Examples of a class that the other folds do not hold are left out.

    Parameters
    ----------
    estimator : estimator
        Fitted again for each fold, on the other folds.
    attributor : attributor
        Cloned for each fold.
    X, y : array-like of n rows
    groups : ndarray of int of shape (n,), default=None
        Groups of all rows, for an attributor of groups: the value of a row is its group's mean.
    cv : int or splitter, default=5
    seed : int, default=0
    verbose : int, default=0
    sample_weight : ndarray of shape (n,) or None, default=None
        Weights for the fits of the models.
    fold_groups : ndarray of int of shape (n,) or None, default=None
        Rows that are held out together.

    Returns
    -------
    ndarray of shape (n,)
        Positive for rows that help.
    """
    if is_frozen(estimator):
        raise ValueError(
            "estimator: a FrozenEstimator learned from all rows, so that none is held out to be "
            "explained. Give the unfitted estimator, or trusted rows (X_val, y_val)."
        )
    classifier, labels = is_classifier(estimator), np.asarray(y)
    folds = fold_list(cv, y, seed, classifier, fold_groups)
    n = count_rows(X)
    total, asked = np.zeros(n), np.zeros(n)
    for train, test in progress(folds, "folds", verbose):
        if classifier:  # nothing can be said of a class that the model never saw
            test = test[np.isin(labels[test], labels[train])]
        model = fit_on(estimator, X, y, train, seed, sample_weight)
        own = None if groups is None else groups[train]
        rows = take_rows(X, train), take_rows(y, train)
        fitted = fit_groups(attributor, model, *rows, own, take_rows(sample_weight, train))
        total[train] += total_scores(fitted, take_rows(X, test), take_rows(y, test))
        asked[train] += len(test)
    values = total / np.maximum(asked, 1)
    return values if groups is None else group_means(values, groups)


def group_means(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Every row's score replaced by the mean over its group.

    Parameters
    ----------
    scores : ndarray of shape (n,)
    groups : ndarray of shape (n,)
        Label of each row's group.

    Returns
    -------
    ndarray of shape (n,)
    """
    _, member = np.unique(groups, return_inverse=True)
    return (np.bincount(member, weights=scores) / np.bincount(member))[member]
