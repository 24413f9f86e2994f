"""How suspicious a label is, from class probabilities: arrays in, numbers out."""

from __future__ import annotations

import numpy as np

__all__ = [
    "cross_entropy",
    "normalized_margin",
    "confidently_contradicted",
    "group_means",
    "kept_rows",
    "spare_classes",
    "suspicious_first",
]

#: Rows of a class that are never left out of a fit.
_FEWEST = 5


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``-log p(label)`` of every row, finite.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes)
    labels : ndarray of int of shape (n,)
        Columns of the labels.

    Returns
    -------
    ndarray of shape (n,)
    """
    own = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(own, np.finfo(np.float64).tiny, 1.0))


def normalized_margin(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Highest probability of another class minus that of the label.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes)
    labels : ndarray of int of shape (n,)

    Returns
    -------
    ndarray of shape (n,), between -1 and 1
    """
    own, others = _own_and_others(probabilities, labels)
    return others.max(axis=1) - own


def confidently_contradicted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows for which the model prefers another class, as surely as it is of that class's own rows.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes)
        Of models that did not learn from the row.
    labels : ndarray of int of shape (n,)

    Returns
    -------
    ndarray of bool of shape (n,)

    Notes
    -----
    Row i is contradicted where some class k has ``p_ik > p_i,label`` and ``p_ik >= t_k``, with
    ``t_k`` the mean of ``p_k`` over the rows labelled k.  Where classes overlap, or many labels
    are wrong, a model is less sure of itself and ``t_k`` falls with it, which leaves rows near a
    boundary alone.  The thresholds are those of confident learning [1]_.

    References
    ----------
    .. [1] C. G. Northcutt, L. Jiang, I. L. Chuang. Confident learning: estimating uncertainty in
       dataset labels. JAIR 2021, arXiv 1911.00068.
    """
    own, others = _own_and_others(probabilities, labels)
    n_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, weights=own, minlength=n_classes)
    sure = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    return ((others >= sure) & (others > own[:, None])).any(axis=1)


def kept_rows(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows to fit on: those not contradicted, and at least five of each class."""
    keep = ~confidently_contradicted(probabilities, labels)
    return spare_classes(keep, cross_entropy(probabilities, labels), labels)


def spare_classes(keep: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows to fit on, with the five least suspicious ones of a class that would have fewer."""
    keep = keep.copy()
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if keep[rows].sum() < _FEWEST:
            keep[rows[np.argsort(scores[rows], kind="stable")[:_FEWEST]]] = True
    return keep


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


def suspicious_first(scores: np.ndarray) -> np.ndarray:
    """Rows in order of falling score, equal ones in row order."""
    return np.argsort(-scores, kind="stable")


def _own_and_others(probabilities, labels):
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    return probabilities[rows, labels], others
