"""KernelRidge as a Task: ridge regression on the features that its kernel stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters._linear import linear_module
from influencekit.models.losses._elementwise import SquaredError

__all__ = ["KernelFeatures", "kernel_ridge_task"]


@as_task.register(KernelRidge)
def kernel_ridge_task(model: KernelRidge, loss: Any = None) -> Task:
    """Task of a fitted KernelRidge: ``Σ_i |y_i - φ(x_i) · w|² + α |w|²``, without intercept.

    The features φ are those of the kernel on the span of the training rows, in which the solution
    lies, also without some of the rows.

    Parameters
    ----------
    model : KernelRidge
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum" and as many parameters as training rows.

    Raises
    ------
    UnsupportedModelError
        For a precomputed kernel.
    """
    refuse_loss(model, loss)
    if model.kernel == "precomputed":
        raise UnsupportedModelError(
            "model: KernelRidge(kernel='precomputed') does not know its rows. Give the kernel by "
            "name or as a function, and the features."
        )
    check_is_fitted(model)
    features = KernelFeatures(model)
    alpha = np.asarray(model.alpha, dtype=np.float64).reshape(-1, 1)
    return Task(
        module=linear_module(features.coefficients(model.dual_coef_), 0.0, fit_intercept=False),
        loss=SquaredError(),
        penalty={"linear.weight": torch.as_tensor(2.0 * alpha)},
        penalty_kind="sum",
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
        transform=features,
        convex=True,
    )


class KernelFeatures:
    """``φ(x) = S^-½ Uᵀ k(x)`` with the kernel of the training rows ``K = U S Uᵀ``.

    Parameters
    ----------
    model : fitted KernelRidge
    """

    def __init__(self, model: KernelRidge):
        self.rows, self.metric = model.X_fit_, model.kernel
        self.options = (
            model.kernel_params or {}
            if callable(model.kernel)
            else {"gamma": model.gamma, "degree": model.degree, "coef0": model.coef0}
        )
        # K = U S Uᵀ
        values, vectors = np.linalg.eigh(self.kernel(self.rows))
        keep = values > len(values) * np.finfo(np.float64).eps * values[-1]
        self.roots, self.vectors = np.sqrt(values[keep]), vectors[:, keep]

    def kernel(self, X: Any) -> np.ndarray:
        """Kernel of rows with the training rows, (n, n_train)."""
        if callable(self.metric):
            return pairwise_kernels(X, self.rows, metric=self.metric, **self.options)
        return pairwise_kernels(
            X, self.rows, metric=self.metric, filter_params=True, **self.options
        )

    def __call__(self, X: Any) -> np.ndarray:
        """Features (n, rank)."""
        # k(x) U S^-½
        return self.kernel(np.asarray(X) if hasattr(X, "columns") else X) @ (
            self.vectors / self.roots
        )

    def coefficients(self, dual: np.ndarray) -> np.ndarray:
        """Coefficients (n_outputs, rank) of the features, from those of the training rows."""
        # w = S^½ Uᵀ a
        return (self.roots[:, None] * (self.vectors.T @ dual.reshape(len(dual), -1))).T
