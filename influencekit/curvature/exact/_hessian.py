"""The Hessian itself, decomposed: its eigenvalues may be negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from influencekit.curvature._operators import CurvatureOperator
from influencekit.curvature._problem import Curvature, CurvatureProblem
from influencekit.curvature._spectrum import damped_inverse, positive_inverse
from influencekit.curvature.exact._centered_space import (
    Axes,
    CenteredLinear,
    axes_of,
    to_raw,
)
from influencekit.curvature.exact._exact import LARGEST_EXACT, ParameterSpectrum
from influencekit.exceptions import NegativeCurvatureWarning, ResourceError, warn_user
from influencekit.gradients._gradients import Gradients
from influencekit.utils._long_work import format_bytes
from influencekit.utils.validation import StrOptions

__all__ = ["Hessian", "HessianSpectrum"]

#: Damping that raises the smallest eigenvalue well above zero, in units of its absolute value.
CLEAR_OF_ZERO = 1.5


class Hessian(Curvature, name="hessian"):
    """Hessian of the mean training objective, computed and decomposed exactly.  Small models.

    Name: ``"hessian"``.

    Parameters
    ----------
    negative : {"drop", "absolute", "keep"}, default="drop"
        How to treat directions of negative curvature ``s < 0``, which a network has if it is not at
        a minimum. "drop": they are left out, and ``fit`` warns with their number.  "absolute":
        ``1 / (|s| + λ)``. "keep": ``1 / (s + λ)`` as in the formula of the papers; if ``s + λ`` is
        not positive, the direction is left out, with a warning. Without negative eigenvalues, the
        three agree.

    Notes
    -----
    As an approximation of further training: the complete second order.

    "keep" is the formula as written, but it does not perform best: close to ``λ = -s``, one
    arbitrary direction dominates the score, and a damping above ``-s_min`` suppresses all other
    directions. On digits (multilayer perceptrons of 2,410 parameters, SGD with and without weight
    decay and AdamW, two seeds each), the linear datamodeling score at the automatic damping was
    0.95 to 1.00 of its own best for "drop" and "absolute". Its average was 0.657 for "drop", 0.653
    for "absolute", 0.650 for Gauss-Newton, and 0.585 for "keep". The best damping above ``-s_min``
    of "keep" reached only 0.81 to 0.99 of the best of "drop" (``python -m benchmarks run
    damping_choices``).

    In the surrogate indicator ξ, the data's shares of the eigenvalues count if they are positive.
    The automatic damping of "keep" is at least 1.5 times ``-s_min``.

    Cost: ``p`` Hessian-vector products and ``O(p³)``; memory ``O(p²)``.

    References
    ----------
    .. [1] P. W. Koh, P. Liang. Understanding black-box predictions via influence functions.
       ICML 2017, arXiv 1703.04730.
    """

    centers: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list]] = {
        "negative": [StrOptions({"drop", "absolute", "keep"})],
    }

    def __init__(self, negative: str = "drop"):
        self.negative = negative

    def factorize(self, problem: CurvatureProblem) -> HessianSpectrum:
        task = problem.engine.task
        p = task.n_parameters
        needed = 4 * 8 * p * p
        if p > LARGEST_EXACT or needed > problem.engine.limit:
            raise ResourceError(
                f"curvature='hessian': the Hessian of {p:,} parameters is a {p:,} x {p:,} matrix "
                f"that needs {format_bytes(needed)}; accepted are up to {LARGEST_EXACT:,} "
                f"parameters, and {problem.engine.limit_in_words}. Use curvature='ggn', or "
                f"Arnoldi(matrix='hessian') or ConjugateGradient(matrix='hessian'), which never "
                f"form it."
            )
        # A = F + R
        matrix = _dense(CurvatureOperator(problem, "hessian"), p)
        penalty = problem.penalty.to(matrix)
        matrix.diagonal().add_(penalty)
        size = p if task.dtype == torch.float64 else 1
        tolerance = size * torch.finfo(task.dtype).eps
        axes = _axes(matrix, penalty, task.module, tolerance)
        scaled = isinstance(task.module, CenteredLinear) and axes.smallest >= -tolerance
        spectrum = HessianSpectrum(
            eigenvalues=axes.eigenvalues,
            data_eigenvalues=axes.data_eigenvalues,
            train_coordinates=torch.empty(0),
            tolerance=0.0 if scaled else tolerance,  # scaled directions all have curvature
            problem=problem,
            basis=axes.basis.to(task.dtype),
            negative=self.negative,
        )
        eigenvalues = axes.eigenvalues
        if self.negative == "drop":
            _warn_of_dropped(eigenvalues, spectrum.tolerance, torch.finfo(task.dtype).eps)
        spectrum.train_coordinates = spectrum.coordinates(problem.train)
        return spectrum


def _axes(matrix: Tensor, penalty: Tensor, module: Any, tolerance: float) -> Axes:
    """Eigenvalues of the model's own parameters, and what takes gradients to their directions."""
    if isinstance(module, CenteredLinear):
        axes = axes_of(matrix, penalty, module, tolerance)
        if axes.smallest >= -tolerance:
            return axes
        # A = T⁻ᵀ A' T⁻¹
        change = to_raw(torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device), module)
        matrix = change.mT @ matrix @ change
    # A = V diag(s) Vᵀ
    eigenvalues, basis = torch.linalg.eigh(matrix)
    # v_kᵀ F v_k = s_k - v_kᵀ R v_k
    data = (eigenvalues - penalty @ basis.square()).clamp_min(0.0)
    if isinstance(module, CenteredLinear):
        basis = change @ basis
    return Axes(eigenvalues, data, basis, float(eigenvalues[0]))


@dataclass(repr=False)  # in one line, as all curvatures
class HessianSpectrum(ParameterSpectrum):
    """Spectrum with negative eigenvalues, and how they are treated.

    Attributes
    ----------
    negative : {"drop", "absolute", "keep"}
    """

    negative: str = "drop"

    def inverse(self, damping: float) -> Tensor:
        if self.negative == "absolute":
            return damped_inverse(self.eigenvalues.abs(), damping, self.tolerance)
        if self.negative == "keep":
            return damped_inverse(self.eigenvalues, damping, self.tolerance)
        return positive_inverse(self.eigenvalues, damping, self.tolerance)

    def products(self, queries: Gradients, damping: float) -> Tensor:
        smallest = float(self.eigenvalues[0])
        if self.negative == "keep" and damping <= -smallest:
            n = int((self.eigenvalues + damping <= 0).sum())
            warn_user(
                f"damping={damping:.3g} does not lift the Hessian's smallest eigenvalue, "
                f"{smallest:.3g}, above zero: {n} directions are left out, and those close to "
                f"zero may dominate the scores. Use a damping above {-smallest:.3g}, "
                "Hessian(negative='drop'), or curvature='ggn'.",
                NegativeCurvatureWarning,
            )
        return super().products(queries, damping)

    @property
    def floor(self) -> float:  # type: ignore[override]
        """1.5 times the size of the smallest eigenvalue, if negative ones are kept."""
        if self.negative != "keep":
            return 0.0
        return CLEAR_OF_ZERO * max(0.0, -float(self.eigenvalues[0]))


def _warn_of_dropped(eigenvalues: Tensor, tolerance: float, eps: float) -> None:
    """Say how much of the spectrum "drop" leaves out, where it is more than rounding."""
    sizes, p = eigenvalues.abs(), len(eigenvalues)
    if float(eigenvalues[0]) >= -max(tolerance, p * eps) * float(sizes.max()):
        return
    dropped = positive_inverse(eigenvalues, 1.0, tolerance) == 0
    # Σ_{s<0} |s| / Σ |s|
    share = float(sizes[dropped].sum() / sizes.sum())
    warn_user(
        f"curvature='hessian': the model is not at a minimum; {int(dropped.sum()):,} of the "
        f"Hessian's {p:,} eigenvalues are negative, {share:.1%} of the sum of their absolute "
        f"values, down to {float(eigenvalues[0]):.3g} (the largest is {float(eigenvalues[-1]):.3g})"
        ". These directions are left out. Hessian(negative='keep') is the formula of the papers "
        "and needs a damping above the smallest eigenvalue's size; Hessian(negative='absolute') "
        "and curvature='ggn' leave out nothing.",
        NegativeCurvatureWarning,
    )


def _dense(operator: CurvatureOperator, p: int) -> Tensor:
    """The matrix of an operator's data part, float64, symmetric."""
    like = operator.diagonal()
    matrix = torch.empty(p, p, dtype=torch.float64, device=like.device)
    for start in range(0, p, 512):
        axes = torch.zeros(min(512, p - start), p, dtype=like.dtype, device=like.device)
        axes.diagonal(start).fill_(1.0)
        # rows e_iᵀ F
        matrix[start : start + len(axes)] = operator.data(axes)
    # (F + Fᵀ) / 2
    return (matrix + matrix.mT) / 2
