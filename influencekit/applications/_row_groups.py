"""Groups of rows in place of single ones, where an application is given a GroupAttributor."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from influencekit.applications._fitting import fit_on
from influencekit.data import make_examples
from influencekit.groups import GroupAttributor, RandomGrouper
from influencekit.groups._holders import check_held
from influencekit.models import as_task

__all__ = ["check_attributor", "check_detector", "fit_groups", "row_groups", "row_shares"]


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
            "grouper: got one beside a GroupAttributor, which has its own; accepted is one of "
            "the two. Leave grouper at None, or give the attributor of single examples."
        )
    if method == "self_influence" and attributor.curvature == "groups":
        raise ValueError(
            "method='self_influence' is of single rows, which curvature='groups' does not score. "
            "Take curvature='points', or method='validation_influence'."
        )


def row_groups(attributor: Any, estimator: Any, X: Any, y: Any, seed: int) -> np.ndarray | None:
    """Group of every row, by the grouper of a GroupAttributor.

    Parameters
    ----------
    attributor : attributor or None
    estimator : estimator
        Fitted on all rows, where there is a grouper to look at it.
    X, y : array-like of n rows
    seed : int
        Of the fit, and of a grouper without a seed of its own.

    Returns
    -------
    ndarray of int of shape (n,), or None for an attributor of single rows
    """
    if not isinstance(attributor, GroupAttributor):
        return None
    if attributor.grouper is None:
        return np.arange(len(np.asarray(y)))
    task = as_task(fit_on(estimator, X, y, None, seed))
    grouped = clone(attributor)
    if grouped.get_params().get("grouper__random_state", seed) is None:
        grouped.set_params(grouper__random_state=seed)
    grouped._partition(task, X, y, make_examples(task, X, y))
    return grouped.labels_


def fit_groups(attributor: Any, model: Any, X: Any, y: Any, groups: np.ndarray | None) -> Any:
    """A clone fitted on some rows, with the groups that all rows were given.

    Parameters
    ----------
    attributor : attributor
    model : fitted model
    X, y : array-like
    groups : ndarray of int or None
        Of these rows; None for an attributor of single rows.

    Returns
    -------
    fitted attributor
    """
    fitted = clone(attributor)
    if groups is None:
        return fitted.fit(model, X, y)
    if fitted.fisher_form == "auto" and isinstance(fitted.grouper, RandomGrouper):
        fitted.set_params(fisher_form="sum")
    return fitted.set_params(grouper=None).fit(model, X, y, groups=groups)


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
