"""Curvatures that are decomposed as they are: Gauss-Newton and the empirical Fisher matrix."""

from __future__ import annotations

from typing import ClassVar

from influencekit.curvature._base import Curvature
from influencekit.curvature.exact._decompose import decompose
from influencekit.curvature.exact._rows import fisher_rows, ggn_rows

__all__ = ["EmpiricalFisher", "GaussNewton"]


class GaussNewton(Curvature):
    """Generalised Gauss-Newton matrix ``F = Σ_i w_i/W J_iᵀ (∇²loss_i) J_i``, decomposed exactly.

    The Hessian without the curvature of the model itself; equal to the Hessian for linear
    models.  Name: ``"ggn"``.

    Notes
    -----
    Place among approximations of further training: the second order without the curvature of the
    model's outputs.

    Cost ``O(N d min(N, d) + min(N, d)³)`` for N of about n · n_classes rows and d dimensions,
    those of the parameters or of ``projection_dim``.

    References
    ----------
    .. [1] J. Martens. New insights and perspectives on the natural gradient method.
       JMLR 2020, arXiv 1412.1193.
    """

    projects: ClassVar[bool] = True
    centers: ClassVar[bool] = True

    def factorise(self, problem):
        return decompose(ggn_rows(problem))


class EmpiricalFisher(Curvature):
    """Empirical Fisher matrix ``F = Σ_i w_i/W ∇loss_i ∇loss_iᵀ``, decomposed exactly.

    Cheaper than Gauss-Newton, and right up to scale only.  Name: ``"fisher"``.

    Notes
    -----
    Place among approximations of further training: the second order with outer products of loss
    gradients for the loss's own Hessian.

    Cost ``O(n d min(n, d) + min(n, d)³)`` for n examples and d dimensions.

    References
    ----------
    .. [1] F. Kunstner, L. Balles, P. Hennig. Limitations of the empirical Fisher approximation
       for natural gradient descent. NeurIPS 2019, arXiv 1905.12558.
    """

    projects: ClassVar[bool] = True
    centers: ClassVar[bool] = True

    def factorise(self, problem):
        return decompose(fisher_rows(problem))
