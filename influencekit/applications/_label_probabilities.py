"""What probabilities of the classes say of labels: which to doubt, and how many are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "confidently_contradicted",
    "count_of_wrong",
    "cross_entropy",
    "kept_rows",
    "normalized_margin",
    "spare_classes",
    "way_to_probabilities",
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
    ``t_k`` the mean of ``p_k`` over the rows labeled k.  Where classes overlap, or many labels
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
    return np.any((others >= sure) & (others > own[:, None]), axis=1)


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


def _own_and_others(probabilities: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    return probabilities[rows, labels], others


#: Share of the rows of a predicted class that count as its surest, and the fewest that do.
_SUREST, _FEWEST_SUREST = 0.2, 10


def count_of_wrong(probabilities: np.ndarray, labels: np.ndarray) -> int:
    """Estimate how many labels are wrong.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes)
    labels : ndarray of int of shape (n,)

    Returns
    -------
    int

    Notes
    -----
    Where classes overlap, a model contradicts many right labels.  Among the rows of which it is
    surest it should contradict wrong ones only.  So the share of other labels among the surest
    fifth of the rows predicted as a class is taken for all rows predicted as that class.  The
    idea is that of anchor points [1]_.  The count is too high where a model is not sure of any
    row, and too low where labels are wrong in regions of which it is not sure.

    References
    ----------
    .. [1] T. Liu, D. Tao. Classification with noisy labels by importance reweighting. TPAMI 2016,
       arXiv 1411.7718.
    """
    predicted, found = probabilities.argmax(axis=1), 0.0
    for k, size in enumerate(np.bincount(predicted, minlength=probabilities.shape[1])):
        n_surest = max(int(np.ceil(_SUREST * size)), min(size, _FEWEST_SUREST))
        surest = np.argsort(-probabilities[:, k], kind="stable")[:n_surest]
        if n_surest:
            found += size * np.mean(labels[surest] != k)
    return round(found)


def way_to_probabilities(model: Any) -> str:
    """How a classifier without ``predict_proba`` gets probabilities, as a part of a sentence.

    Parameters
    ----------
    model : classifier

    Returns
    -------
    str
    """
    hard = getattr(model, "voting", None) == "hard"
    return "set voting='soft'" if hard else "wrap it in scikit-learn's CalibratedClassifierCV"
