"""ξ beside ω: whether the condition of the theorem holds, once retrained outputs are there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from influencekit.curvature._spectrum import CoordinatePath, CoordinateSpectrum, DampingPath
from influencekit.curvature.exact._unheld import UnheldSpectrum
from influencekit.training.subsets._subset_outputs import SubsetOutputs

__all__ = ["XiOmega", "xi_omega"]

#: Largest difference of the scored gradients' Gram matrix from the eigenvalues, over the largest.
CLOSE = 1e-4
NEEDS = (
    "accepted is the path of one model under InfluenceFunction('fisher'), with equal sample "
    "weights and with one penalty for all parameters or none"
)


class XiOmega(NamedTuple):
    """ξ and ω of every query at every damping.

    Attributes
    ----------
    dampings : ndarray of shape (n_dampings,)
    xi, omega : ndarray of shape (n_dampings, n_query)
        NaN where a query has no gradient, or ω where its retrained outputs are constant.
    share : ndarray of shape (n_dampings,)
        Share of the queries with ξ < ω, among those with both: their LDS rises with λ there.
    """

    dampings: NDArray
    xi: NDArray
    omega: NDArray
    share: NDArray


def xi_omega(path: DampingPath, subset_outputs: SubsetOutputs, dampings: ArrayLike) -> XiOmega:
    """The surrogate indicator ξ beside ω, which retrained outputs tell.

    ξ(λ) < ω(λ) implies that the Pearson LDS of a query over all subsets of one size rises at λ.

    Parameters
    ----------
    path : DampingPath
        ``damping_path(X_query, y_query)`` of ``InfluenceFunction("fisher")``, fitted to one model.
    subset_outputs : SubsetOutputs
        Retrained outputs for the same training rows and queries, with subsets of one size.
    dampings : float or array-like of shape (n_dampings,)
        Above 0.

    Returns
    -------
    XiOmega

    Raises
    ------
    TypeError, ValueError
        If the path is of another curvature, or the arguments do not fit together.

    Notes
    -----
    With the gradients J of the training losses, g of the output, ``K = JᵀJ/n + λI``, ``b = Jᵀg``
    and ``q_j = -Cov(output, 1[j in subset])``, ω is ``qᵀK⁻¹b / √(bᵀK⁻¹b · qᵀK⁻¹q)``, a cosine.  A
    penalty of the model counts as part of λ, as in ξ.

    ω is exact with all subsets of one size.  With a sample of them q is noisy, which makes ω too
    small and the share too low.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from influencekit import InfluenceFunction, retrain_on_subsets
    >>> X, y = load_diabetes(return_X_y=True)
    >>> data = X[:40], y[:40], X[40:50], y[40:50]
    >>> model = Ridge(1e-2, fit_intercept=False).fit(*data[:2])
    >>> truth = retrain_on_subsets(model, *data, n_subsets=50, random_state=0)
    >>> influence = InfluenceFunction("fisher").fit(model, *data[:2])
    >>> found = xi_omega(influence.damping_path(*data[2:]), truth, [1e-3, 1e3])
    >>> found.omega.shape
    (2, 10)
    """
    path = _checked(path)
    values = np.atleast_1d(np.asarray(dampings, dtype=np.float64))
    if not (values > 0).all():
        raise ValueError(f"dampings: got {dampings!r}; accepted are numbers above 0.")
    omega = _omega(path, _covariances(path, subset_outputs), torch.as_tensor(values))
    xi = path.xi(values)
    both = np.isfinite(xi) & np.isfinite(omega)
    with np.errstate(invalid="ignore"):  # the share of no query is NaN
        share = ((xi < omega) & both).sum(axis=1) / both.sum(axis=1)
    return XiOmega(values, xi, omega, share)


def _checked(path: DampingPath) -> CoordinatePath:
    """A path whose curvature is the Gram matrix of the scored gradients, plus a constant."""
    if not isinstance(path, CoordinatePath):
        raise TypeError(f"path: got {type(path).__name__}; {NEEDS}.")
    spectrum, weights = path.spectrum, path.train_weights
    train, data = _train_coordinates(spectrum).double(), spectrum.data_eigenvalues
    penalty = spectrum.eigenvalues - data
    # Cᵀ diag(w) C - diag(d)
    difference = train.mT @ (train * weights[:, None]) - torch.diag(data)
    off = CLOSE * float(spectrum.eigenvalues.max())
    differs = float(difference.abs().max()) > off or float(penalty.max() - penalty.min()) > off
    if differs or float(weights.max() - weights.min()) > CLOSE * float(weights.max()):
        raise ValueError(f"path: its curvature is not that of the scored gradients alone; {NEEDS}.")
    return path


def _train_coordinates(spectrum: CoordinateSpectrum) -> Tensor:
    held = not isinstance(spectrum, UnheldSpectrum)
    return spectrum.train_coordinates if held else spectrum.coordinates(spectrum.problem.train)


def _covariances(path: CoordinatePath, subset_outputs: SubsetOutputs) -> Tensor:
    """``q``, (n_query, n_train)."""
    if not isinstance(subset_outputs, SubsetOutputs):
        raise TypeError(
            f"subset_outputs: got {type(subset_outputs).__name__}; accepted is SubsetOutputs, from "
            "retrain_on_subsets."
        )
    outputs, masks = subset_outputs.mean_outputs(), subset_outputs.masks
    got = masks.shape[1], outputs.shape[1]
    wanted = len(path.train_weights), len(path.query_coordinates)
    if got != wanted:
        raise ValueError(
            f"subset_outputs: holds {got[0]:,} training rows and {got[1]:,} queries, but path has "
            f"{wanted[0]:,} and {wanted[1]:,}. It must come from the same data."
        )
    sizes = np.unique(masks.sum(axis=1))
    if len(sizes) > 1:
        raise ValueError(
            f"subset_outputs: got subsets of {sizes[0]:,} to {sizes[-1]:,} rows; accepted are "
            "subsets of one size, as retrain_on_subsets draws them."
        )
    # q_j = -mean over subsets of (f - mean f) [j in subset]
    centered = outputs - outputs.mean(axis=0)
    return torch.as_tensor(-centered.T @ masks / len(masks))


def _omega(path: CoordinatePath, q: Tensor, dampings: Tensor) -> NDArray:
    """ω, (n_dampings, n_query), in the left singular vectors U of Jᵀ: ``K = U diag(d + λ) Uᵀ``."""
    spectrum, n = path.spectrum, q.shape[1]
    penalty = float((spectrum.eigenvalues - spectrum.data_eigenvalues).mean())
    kept = spectrum.data_eigenvalues > max(spectrum.tolerance, 1e-14) * spectrum.eigenvalues.max()
    data = spectrum.data_eigenvalues[kept].cpu()
    roots = (n * data).sqrt()
    # U = C / √(n d); b = C c = U √(n d) c
    left = _train_coordinates(spectrum)[:, kept].cpu().double() / roots
    b, own = path.query_coordinates[:, kept].cpu() * roots, q @ left
    # what of q lies outside U sees λ alone
    outside = (q.square().sum(1) - own.square().sum(1)).clamp_min(0.0)
    total = penalty + dampings[:, None]
    inverses = 1 / (data + total)
    q_b, b_b = inverses @ (own * b).mT, inverses @ b.square().mT
    q_q = inverses @ own.square().mT + outside / total
    # qᵀK⁻¹b / √(bᵀK⁻¹b · qᵀK⁻¹q)
    return (q_b / (b_b * q_q).sqrt()).numpy()
