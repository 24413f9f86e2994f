"""The result of solving linear systems: products and residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["Solution", "join_solutions"]


@dataclass(frozen=True, eq=False)
class Solution:
    """Products through a damped inverse, with the residual of each system that was solved.

    Attributes
    ----------
    products : Tensor or ndarray of shape (n_systems, ...)
        A curvature's ``solve`` returns ``(A + λI)⁻¹ v`` of every row ``v``, and its
        ``solution`` ``<g_i, (A + λI)⁻¹ ∇loss_j>`` of every query i.
    residuals : ndarray of shape (n_systems,) or None, default=None
        Relative residuals ``‖v - (A + λI) x‖ / ‖v‖``, 0 if ``v`` is zero; None if the method is
        exact.
    iterations : ndarray of shape (n_systems,) or None, default=None
        Number of iterations for each system; None if the method does not iterate.
    """

    products: Tensor | np.ndarray
    residuals: np.ndarray | None = None
    iterations: np.ndarray | None = None


def join_solutions(products: Tensor, parts: Sequence[Solution]) -> Solution:
    """One solution with the given products, and the residuals and iterations of its parts.

    Parameters
    ----------
    products : Tensor
    parts : sequence of Solution
        Parts of the solution, in the order of the systems.

    Returns
    -------
    Solution
    """
    residuals = [part.residuals for part in parts if part.residuals is not None]
    iterations = [part.iterations for part in parts if part.iterations is not None]
    return Solution(
        products,
        np.concatenate(residuals) if residuals else None,
        np.concatenate(iterations) if iterations else None,
    )
