"""The data that a Pipeline's last step learned from, if ``fit_transform`` is special."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import TransformerMixin, clone

from influencekit.exceptions import InfluenceKitWarning, warn_user

__all__ = ["learned_from", "same"]


def learned_from(step: Any, X: Any, y: Any, plain: Any) -> Any:
    """Training rows after a fitted step, as the later steps learned from them.

    A Pipeline fits each step with ``fit_transform``, which may treat training rows differently from
    how ``transform`` treats new rows (as TargetEncoder does by cross-fitting). If the two differ, a
    clone is fitted again. Its result is used if two fits agree and its ``transform`` equals that of
    the fitted step.

    Parameters
    ----------
    step : fitted transformer
    X, y : array-like
        The training rows before the step.
    plain : array-like
        The training rows after the step's ``transform``.

    Returns
    -------
    array-like

    Warns
    -----
    InfluenceKitWarning
        If the two differ and the first cannot be computed again.
    """
    if y is None or not _has_own_way(step):
        return plain
    again = clone(step)
    try:
        seen = again.fit_transform(X, y)
    except (TypeError, ValueError):  # its fit needs more than X and y
        return plain
    new = again.transform(X)
    if same(seen, new):
        return plain
    if same(new, plain) and same(clone(step).fit_transform(X, y), seen):
        return seen
    warn_user(
        f"model: the step {type(step).__name__} of the Pipeline gives different values in "
        f"fit_transform, from which the last step learned, and in transform; and they differ "
        f"between fits. Scores and retraining use the rows from transform, not those that the "
        f"model learned from. Fit the Pipeline with an integer random_state for that step; or "
        f"give the data that the last step was fitted on as X_fit.",
        InfluenceKitWarning,
    )
    return plain


def _has_own_way(step: Any) -> bool:
    """Whether ``fit_transform`` differs from fit and transform, here or in an inner step."""
    own = getattr(type(step), "fit_transform", None)
    if own is None or own is TransformerMixin.fit_transform:
        return False
    inner = getattr(step, "transformers_", None) or getattr(step, "transformer_list", None)
    inner = getattr(step, "steps", None) or inner
    if not isinstance(inner, list):
        return True
    return any(_has_own_way(part[1]) for part in inner if not isinstance(part[1], str))


def same(a: Any, b: Any) -> bool:
    """Whether two representations of the same rows agree up to rounding, in each column's unit."""
    if a.shape != b.shape:
        return False
    if sparse.issparse(a) and sparse.issparse(b):
        return bool((_largest(a - b) <= 1e-6 * _largest(b)).all())
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
        return bool((a == b).all())
    largest = np.abs(b, where=np.isfinite(b), out=np.zeros(b.shape)).max(axis=0, initial=0.0)
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-7 * largest, equal_nan=True))


def _largest(matrix: Any) -> np.ndarray:
    """Largest absolute value of each column of a sparse matrix."""
    return abs(matrix.tocsc()).max(axis=0).toarray().ravel()
