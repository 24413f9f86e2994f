"""Conjugate gradients: the damped inverse applied to many gradients at once."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from influencekit.curvature._operators import MATRICES
from influencekit.curvature._problem import Curvature, CurvatureProblem
from influencekit.curvature._solution import Solution
from influencekit.curvature.iterative._iterative import IterativeCurvature, relative
from influencekit.curvature.iterative._preconditioners import PRECONDITIONERS, Preconditioner
from influencekit.curvature.low_rank._lanczos import extreme_eigenvalues
from influencekit.utils._long_work import progress
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["ConjugateGradient"]


class ConjugateGradient(Curvature, name="cg"):
    """Hessian or Gauss-Newton matrix, never formed: one system is solved for each query.

    Name: ``"cg"``.

    Parameters
    ----------
    matrix : {"ggn", "hessian"}, default="ggn"
    rtol : float, default=1e-5
        Relative residual ``‖v - (A + λI) x‖ / ‖v‖`` at which a system counts as solved.
    max_iter : int, default=200
    preconditioner : {"nystroem"} or None, default="nystroem"
        "nystroem": a Nyström approximation of the Gauss-Newton matrix, which removes the largest
        eigenvalues from the iteration. Others do not pay where the data are fitted well. EK-FAC
        took about as many iterations as none on a small convolutional net, and more than twice as
        many on a small Llama, where this one took less than a third (λ = 0.01).
    preconditioner_rank : int, default=300
        Rank of the Nyström approximation, reduced if memory is short. On digits, rank 300 reduced
        about 33 iterations to 3 or 4.
    random_state : int, RandomState instance or None, default=None
        Seed for the Nyström approximation; None uses the attributor's. Scores depend on it only
        within ``rtol``.

    Notes
    -----
    As an approximation of further training: second order, with the whole matrix and no
    approximation except for the residual.

    All queries go through the data together, with matrix products in place of matrix-vector
    products; solved systems drop out. Residuals are computed again at the end, and systems that
    miss ``rtol`` because of rounding are continued from their current solution.

    ``InfluenceFunction("cg").fit(...).solution(X, y)`` returns the residual and number of
    iterations of each query's system; a :class:`~influencekit.exceptions.ConvergenceWarning` is
    issued if ``rtol`` was missed. Negative curvature (possible with "hessian" if the damping does
    not raise its eigenvalues above zero) is an error: the solution would be a saddle point.  The
    automatic damping is chosen large enough, which costs accuracy, see :class:`Hessian`.

    Cost per iteration: two forward and backward passes over the data for each query. There is no
    damping path: every λ needs its own solution.

    References
    ----------
    .. [1] J. Martens. Deep learning via Hessian-free optimization. ICML 2010.
    .. [2] Z. Frangella, J. A. Tropp, M. Udell. Randomized Nyström preconditioning.
       arXiv 2110.02820.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "matrix": [StrOptions(set(MATRICES))],
        "rtol": [Interval(Real, 0, 1, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "preconditioner": [StrOptions(set(PRECONDITIONERS)), None],
        "preconditioner_rank": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        matrix: str = "ggn",
        *,
        rtol: float = 1e-5,
        max_iter: int = 200,
        preconditioner: str | None = "nystroem",
        preconditioner_rank: int = 300,
        random_state: Any = None,
    ):
        self.matrix = matrix
        self.rtol = rtol
        self.max_iter = max_iter
        self.preconditioner = preconditioner
        self.preconditioner_rank = preconditioner_rank
        self.random_state = random_state

    def factorize(self, problem: CurvatureProblem) -> ConjugateGradientCurvature:
        precondition: Preconditioner | None = None
        if self.preconditioner is not None:
            make = PRECONDITIONERS[self.preconditioner]
            precondition = make(problem, self.preconditioner_rank, self.random_state)
        return ConjugateGradientCurvature(
            problem, self.matrix, self.rtol, self.max_iter, precondition
        )


class ConjugateGradientCurvature(IterativeCurvature):
    """Products through the inverse by conjugate gradients."""

    n_copies = 16  # of x, r, z, d, A d, those of the round before, and what an operator makes

    def __init__(
        self,
        problem: CurvatureProblem,
        matrix: str,
        rtol: float,
        max_iter: int,
        precondition: Preconditioner | None,
    ):
        super().__init__(problem, matrix, rtol)
        self.max_iter = max_iter
        self.precondition = precondition

    def run(self, vectors: Tensor, damping: float) -> Solution:
        x = torch.zeros_like(vectors)
        iterations = torch.zeros(len(vectors), dtype=torch.long, device=vectors.device)
        left, sizes = vectors, relative(vectors, vectors)
        while True:
            open_ = (sizes > self.rtol).nonzero()[:, 0]
            budget = self.max_iter - int(iterations.max()) if len(iterations) else 0
            if len(open_) == 0 or budget < 1:
                break
            # relative to the vectors, not to their current residuals
            goals = self.rtol * torch.linalg.vector_norm(vectors[open_], dim=1)
            step, taken = self._iterate(left[open_], damping, goals, budget)
            x[open_] += step
            iterations[open_] += taken
            # r = v - (A + λI) x
            left = vectors - self.operator(x, damping)
            before, sizes = sizes, relative(left, vectors)
            if not bool((sizes[open_] < 0.5 * before[open_]).any()):
                break  # rounding prevents further progress
        return Solution(x, sizes.double().cpu().numpy(), iterations.cpu().numpy())

    def _iterate(
        self, vectors: Tensor, damping: float, goals: Tensor, budget: int
    ) -> tuple[Tensor, Tensor]:
        """Conjugate gradients from zero, until recursive residuals are below goals."""
        solution = torch.zeros_like(vectors)
        taken = torch.full((len(vectors),), budget, device=vectors.device)
        rows = torch.arange(len(vectors), device=vectors.device)
        x, r = torch.zeros_like(vectors), vectors.clone()
        # z = M⁻¹ r, d = z, ρ = <r, z>
        z = self._preconditioned(r, damping)
        d, rho = z.clone(), (r * z).sum(1)
        verbose = self.problem.engine.verbose
        steps = progress(range(1, budget + 1), "conjugate gradients", verbose, leave=False)
        for iteration in steps:
            # (A + λI) d, and <d, (A + λI) d>
            image = self.operator(d, damping)
            curvature = (d * image).sum(1)
            if not bool((curvature > 0).all()):
                self._explain(d, curvature, damping)
            # α = ρ / <d, (A + λI) d>; x + α d; r - α (A + λI) d
            alpha = (rho / curvature)[:, None]
            x.addcmul_(alpha, d)
            r.addcmul_(alpha, image, value=-1)
            solved = torch.linalg.vector_norm(r, dim=1) <= 0.9 * goals[rows]
            if bool(solved.any()):
                solution[rows[solved]], taken[rows[solved]] = x[solved], iteration
                rows, x, r, d, rho = (t[~solved] for t in (rows, x, r, d, rho))
                if len(rows) == 0:
                    return solution, taken
            # z = M⁻¹ r; d = z + (ρ_new / ρ_old) d
            z = self._preconditioned(r, damping)
            before, rho = rho, (r * z).sum(1)
            d = torch.addcmul(z, (rho / before)[:, None], d)
        solution[rows] = x
        return solution, taken

    def _preconditioned(self, rows: Tensor, damping: float) -> Tensor:
        return rows if self.precondition is None else self.precondition(rows, damping)

    def _explain(self, directions: Tensor, curvature: Tensor, damping: float) -> None:
        """Raise the error of a matrix that is not positive definite."""
        if not bool(torch.isfinite(curvature).all()):
            raise ValueError(
                "curvature: conjugate gradients met NaN or infinity in products with the "
                f"{self.operator.matrix}: the model's derivatives overflow. Use float64."
            )
        along = curvature / directions.square().sum(1)
        smallest, _ = extreme_eigenvalues(self.operator, self.operator.diagonal())
        n, smallest = int((curvature <= 0).sum()), min(smallest, float(along.min()) - damping)
        raise ValueError(
            f"damping={damping:.3g}: the {self.operator.matrix} with the damping is not positive "
            f"definite. {n} of {len(curvature)} systems met a direction with curvature "
            f"{float(along.min()):.3g}; the smallest eigenvalue without damping is "
            f"about {smallest:.3g}. Use a damping above {-smallest:.3g} (damping='auto' does)"
            f"{self.or_ggn}."
        )

    def _remedy(self) -> str:
        return (
            "Raise max_iter or rtol, or use preconditioner='nystroem' with a higher "
            "preconditioner_rank, or a larger damping. Residuals below the rounding error (about "
            "1e-6 in float32) need a float64 model."
        )
