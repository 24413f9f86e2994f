"""Randomized Nyström approximation of the Gauss-Newton matrix or the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor

from influencekit.curvature._operators import MATRICES, CurvatureOperator
from influencekit.curvature._problem import Curvature, CurvatureProblem, drawn_seed
from influencekit.curvature.low_rank._lanczos import extreme_eigenvalues, normal_rows
from influencekit.curvature.low_rank._low_rank import (
    LowRankSpectrum,
    low_rank_spectrum,
    require_room,
)
from influencekit.curvature.low_rank._orthonormal import (
    mix_rows,
    orthonormalize,
    right_singular_rows,
)
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["Nystroem", "nystroem"]


class Nystroem(Curvature, name="nystroem"):
    """Nyström approximation ``F ≈ (FΩ)(ΩᵀFΩ)⁺(FΩ)ᵀ`` from products with random vectors.

    It takes one round of products; after that, Woodbury's formula gives every damping. Name:
    ``"nystroem"``.

    Parameters
    ----------
    rank : int, default=100
        Number of random vectors.
    matrix : {"ggn", "hessian"}, default="ggn"
    random_state : int, RandomState instance or None, default=None
        Seed for the random vectors; None uses the attributor's.

    Notes
    -----
    The computation is the stable form with a small shift [2]_. Outside the span, the curvature is
    only the penalty and λ, as in Woodbury's formula: ``(<g, h> - <Uᵀg, Uᵀh>) / (penalty + λ)``.  A
    model's own penalty is added exactly.

    The approximation is for matrices without negative eigenvalues.  A Hessian is first shifted by
    its smallest eigenvalue, and shifted back afterwards on the span; the shift adds about its own
    size to the error. Directions of negative curvature are then left out, see :class:`Hessian`.

    The automatic damping is that of a projected Gauss-Newton matrix plus the smallest eigenvalue
    kept, because sketched eigenvalues are too small by about that amount.  On digits (three
    recipes, two seeds, ranks 30 to 300) its linear datamodeling score was 0.95 to 1.00 of the best
    (``python -m benchmarks run damping_choices``).

    Cost: ``rank`` products of two passes each, ``O(p rank²)``, and ``O(n p rank)`` for the
    coordinates of gradients.  Memory ``O(p rank)``.

    References
    ----------
    .. [1] R. Hataya, M. Yamada. Nyström method for accurate and scalable implicit
       differentiation. AISTATS 2023, arXiv 2302.09726.
    .. [2] Z. Frangella, J. A. Tropp, M. Udell. Randomized Nyström preconditioning.
       arXiv 2110.02820.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "rank": [Interval(Integral, 1, None, closed="left")],
        "matrix": [StrOptions(set(MATRICES))],
        "random_state": ["random_state"],
    }

    def __init__(self, rank: int = 100, matrix: str = "ggn", *, random_state: Any = None):
        self.rank = rank
        self.matrix = matrix
        self.random_state = random_state

    def factorize(self, problem: CurvatureProblem) -> LowRankSpectrum:
        return low_rank_spectrum(problem, *self.sketch(problem), short=True)

    def sketch(self, problem: CurvatureProblem) -> tuple[Tensor, Tensor]:
        """Eigenpairs of the data's part: orthonormal rows (rank, p) and values (rank,)."""
        rank = min(self.rank, problem.engine.task.n_parameters)
        # rows and images, and a copy of one of them
        require_room(problem, 3 * rank, f"Nystroem(rank={self.rank})", "Lower its rank")
        operator = CurvatureOperator(problem, self.matrix)
        seed = drawn_seed(self.random_state, problem)
        like, shift = operator.diagonal(), 0.0
        if self.matrix == "hessian":
            shift = 1.1 * max(0.0, -extreme_eigenvalues(operator.data, like, seed=seed)[0])
        return nystroem(operator.data, normal_rows(rank, like, seed), shift)


def nystroem(
    multiply: Callable[[Tensor], Tensor], rows: Tensor, shift: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Eigenpairs of the Nyström approximation of a symmetric operator.

    Parameters
    ----------
    multiply : callable
        ``(k, p) -> (k, p)``.
    rows : Tensor of shape (rank, p)
        Random vectors; other numbers are left in their place.
    shift : float, default=0.0
        Shift that makes the operator positive semi-definite.

    Returns
    -------
    vectors : Tensor of shape (rank, p)
        Orthonormal rows.
    values : Tensor of shape (rank,), float64
        Eigenvalues in ascending order.
    """
    # Ω: orthonormal rows (rank, p); all that follows is in the place of what it is made of
    orthonormalize(rows)
    # Y = Ω (A + shift I), (rank, p)
    image = multiply(rows)
    if shift:
        image = image.add_(rows, alpha=shift)
    if not float(image.norm()) > 0:  # nothing curves: a loss that is linear in the outputs
        return rows, torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    rounding = rows.shape[1] ** 0.5 * torch.finfo(rows.dtype).eps * float(image.norm())
    # C = Ω Yᵀ = Ω (A + shift I) Ωᵀ, (rank, rank)
    core = (rows @ image.mT).to(torch.float64)
    # C = M diag(l) Mᵀ
    lengths, mixing = torch.linalg.eigh((core + core.mT) / 2)
    low = max(float(lengths[-1]), 0.0) * torch.finfo(rows.dtype).eps
    rounding = max(rounding, low, -2 * float(lengths[0]))  # makes the core positive
    # H = (l + ε)^-½ Mᵀ (Y + ε Ω): HᵀH is the approximation of A + (shift + ε) I
    root = (lengths + rounding).clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    half = image.add_(rows, alpha=rounding)
    del rows, image
    mix_rows((mixing * root).mT, half)
    # H = U diag(σ) Vᵀ, so that HᵀH = V diag(σ²) Vᵀ
    singular = right_singular_rows(half)
    return half, (singular.square() - rounding).clamp_min(0.0) - shift
