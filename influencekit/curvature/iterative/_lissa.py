"""LiSSA: the damped inverse as a truncated Neumann series over random batches."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf, log
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from influencekit.curvature._operators import MATRICES, CurvatureOperator
from influencekit.curvature._problem import Curvature, CurvatureProblem, drawn_seed
from influencekit.curvature._solution import Solution
from influencekit.curvature.iterative._iterative import IterativeCurvature, relative
from influencekit.curvature.low_rank._lanczos import extreme_eigenvalues, lanczos, normal_rows
from influencekit.exceptions import ConvergenceWarning, ResourceError, warn_user
from influencekit.utils._long_work import progress
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["LiSSA"]

#: Ratio of the scale to the largest eigenvalue found, which Lanczos slightly underestimates.
SAFETY = 1.2
#: Number of batches whose largest eigenvalue is computed.
N_BATCHES = 5
#: Longest series chosen by default.
LONGEST = 10_000
#: Number of terms after which convergence is checked only now and then.
OFTEN = 20
#: Number of terms above which a warning comes before the work.
MANY = 1_000
#: Number of terms after which the rate of a series on all examples is looked at.
SETTLED = 200


class LiSSA(Curvature, name="lissa"):
    """Hessian or Gauss-Newton matrix, inverted by a series over batches of training examples.

    ``h ← v + h - (A_batch h + λh) / scale``, and ``x = h / scale``.  Name: ``"lissa"``.

    Parameters
    ----------
    matrix : {"ggn", "hessian"}, default="ggn"
    scale : float or None, default=None
        Must exceed half the largest eigenvalue of ``A_batch + λI``.  None: 1.2 times the
        largest found by Lanczos on the whole data and on 5 batches.
    depth : int or None, default=None
        Number of terms in the series. None: enough for the slowest direction, one without
        curvature, to reach ``rtol``: ``log(1/rtol) * scale / λ``. Above 1,000 terms a
        warning says so. If more than 10,000 are needed, an error says so: beforehand for batches,
        and for all examples as soon as the rate shows it.
    repeats : int, default=1
        Number of series to average, which reduces the noise of the batches.
    rows_per_step : int or None, default=128
        Examples drawn for each term of the series, without replacement: scores depend on it.
        None uses all, and the series of a query stops as soon as its residual is below ``rtol``.
    rtol : float, default=0.01
        Relative error of the truncated series, not counting the noise of batches.
    random_state : int, RandomState instance or None, default=None
        Seed for the batches, which are the same for all queries; None uses the attributor's.

    Notes
    -----
    As an approximation of further training: second order. t terms of the series are t steps of
    gradient descent on the damped quadratic, so a short series acts like more damping.

    A diverging series is detected by its size: as long as no term grows, ``‖h‖`` after t terms is
    at most ``(t + 1) ‖v‖``. The error states scale, eigenvalue and damping.

    ``InfluenceFunction("lissa").fit(...).solution(X, y)`` has each query's relative residual on
    the whole data.  It stays of the order of the batch noise, even if scores are close to
    converged; a ConvergenceWarning is issued if the series itself is too short.

    Cost per term: two forward and backward passes over a batch for each query, and a few operations
    on all parameters. On all rows, a series that took as many products as there are parameters
    forms the matrix, if it fits. :class:`ConjugateGradient` computes the same products, without
    noise, in far fewer operations; LiSSA is included for comparison.

    References
    ----------
    .. [1] N. Agarwal, B. Bullins, E. Hazan. Second-order stochastic optimization for machine
       learning in linear time. JMLR 2017, arXiv 1602.03943.
    .. [2] P. W. Koh, P. Liang. Understanding black-box predictions via influence functions.
       ICML 2017, arXiv 1703.04730.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "matrix": [StrOptions(set(MATRICES))],
        "scale": [Interval(Real, 0, None, closed="neither"), None],
        "depth": [Interval(Integral, 1, None, closed="left"), None],
        "repeats": [Interval(Integral, 1, None, closed="left")],
        "rows_per_step": [Interval(Integral, 1, None, closed="left"), None],
        "rtol": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        matrix: str = "ggn",
        *,
        scale: float | None = None,
        depth: int | None = None,
        repeats: int = 1,
        rows_per_step: int | None = 128,
        rtol: float = 1e-2,
        random_state: Any = None,
    ):
        self.matrix = matrix
        self.scale = scale
        self.depth = depth
        self.repeats = repeats
        self.rows_per_step = rows_per_step
        self.rtol = rtol
        self.random_state = random_state

    def factorize(self, problem: CurvatureProblem) -> LissaCurvature:
        n = len(problem.examples)
        size = self.rows_per_step
        seed = drawn_seed(self.random_state, problem)
        some = None if size is None or size >= n else int(size)
        return LissaCurvature(problem, self, rows_per_step=some, seed=seed)


class LissaCurvature(IterativeCurvature):
    """Products through the inverse by the series.

    Attributes
    ----------
    largest_ : float
        Largest eigenvalue found on all data and on batches, including the penalty.
    smallest_ : float
        Smallest eigenvalue on all data, including the penalty: below 0 only for a Hessian.
    """

    n_copies = 12  # of v, h, its changes, the sum of repeats, and what an operator makes

    def __init__(
        self, problem: CurvatureProblem, settings: LiSSA, *, rows_per_step: int | None, seed: int
    ):
        super().__init__(problem, settings.matrix, settings.rtol)
        self.settings, self.rows_per_step, self.seed = settings, rows_per_step, seed
        self.largest_ = self._largest()
        self.smallest_ = self._smallest()

    def run(self, vectors: Tensor, damping: float) -> Solution:
        scale = self._scale(damping)
        depth, enough = self._depth(scale, damping)
        if self.settings.depth is None:
            self._announce(depth, enough, len(vectors), scale, damping)
        total, taken = torch.zeros_like(vectors), np.zeros(len(vectors), dtype=int)
        for repeat in range(self.settings.repeats):
            h, terms = self._series(vectors, damping, scale, depth, self.seed + repeat)
            # mean over the repeats of h / scale
            total, taken = total.add_(h, alpha=1 / (scale * self.settings.repeats)), taken + terms
        # ‖v - (A + λI) x‖ / ‖v‖
        sizes = relative(vectors - self.operator(total, damping), vectors).double().cpu().numpy()
        return Solution(total, sizes, taken)

    def _series(
        self, vectors: Tensor, damping: float, scale: float, depth: int, seed: int
    ) -> tuple[Tensor, np.ndarray]:
        """The series of each vector, and its terms: on all rows, it ends when it is solved."""
        ended, taken = torch.empty_like(vectors), np.full(len(vectors), depth)
        shift, data = self.operator.diagonal(damping) / scale, _DataProducts(self.operator)
        h, places, before = vectors.clone(), torch.arange(len(vectors)), inf
        steps = progress(range(depth), "LiSSA", self.problem.engine.verbose, leave=False)
        rows = self._batches(depth, seed)
        for t in steps:
            # h + v - (F_t + R + λI) h / scale, with the F_t of a batch
            change = data(h, next(rows)).mul_(-1 / scale)
            change.addcmul_(h, shift, value=-1).add_(vectors)
            h += change
            if t >= OFTEN and t % OFTEN and t < depth - 1 and self.rows_per_step is not None:
                continue
            self._check_size(h, vectors, t, scale, damping)
            if self.rows_per_step is not None:
                continue
            left = relative(change, vectors)
            if bool((left <= self.rtol).any()):
                solved = (left <= self.rtol).cpu()
                ended[places[solved]], taken[places[solved]] = h[solved], t + 1
                h, vectors, places, left = (x[~solved] for x in (h, vectors, places, left))
                if len(places) == 0:
                    return ended, taken
            if t and t % SETTLED == 0 and self.settings.depth is None:
                self._check_rate(t, before, float(left.max()), scale, damping)
                before = float(left.max())
        ended[places] = h
        return ended, taken

    def _check_size(self, h: Tensor, v: Tensor, t: int, scale: float, damping: float) -> None:
        """Stop a series that diverges."""
        size, norms = torch.linalg.vector_norm(h, dim=1), torch.linalg.vector_norm(v, dim=1)
        if bool((~(size <= 2 * (t + 2) * norms)).any()):
            self._explain(t + 1, float((size / norms).nan_to_num(0).max()), scale, damping)

    def _announce(self, depth: int, enough: bool, k: int, scale: float, damping: float) -> None:
        """Say what a long series costs, or that it is too long."""
        if self.rows_per_step is not None and not enough:
            slowest = self.smallest_ + damping
            raise self._too_long(log(1 / self.rtol) * scale / max(slowest, 1e-300), scale, damping)
        if depth * self.settings.repeats > MANY:
            rows = self.rows_per_step or len(self.problem.examples)
            warn_user(
                f"LiSSA takes up to {depth * self.settings.repeats:,} terms at "
                f"damping={damping:.3g}, each two forward and backward passes over {rows:,} "
                f"examples for {k:,} gradients. A larger damping needs fewer; ConjugateGradient() "
                "takes a few dozen for the same products.",
                ConvergenceWarning,
            )

    def _check_rate(self, t: int, before: float, left: float, scale: float, damping: float) -> None:
        """Stop a series that cannot reach ``rtol``: its rate only becomes slower."""
        fall = log(before / left) / SETTLED if before < inf else inf
        needed = t + log(left / self.rtol) / fall if fall > 0 else inf
        if needed > LONGEST:
            raise self._too_long(needed, scale, damping, f" After {t} terms it is {left:.2g}.")

    def _too_long(self, needed: float, scale: float, damping: float, so_far: str = "") -> Exception:
        least = log(1 / self.rtol) * scale / LONGEST - self.smallest_
        return ResourceError(
            f"damping: at {damping:.3g}, LiSSA needs about {needed:.2g} terms to bring the "
            f"residual below rtol={self.rtol:g}, more than {LONGEST:,}.{so_far} Use a damping "
            f"above {least:.2g}, ConjugateGradient(), which needs a few dozen products, or give "
            "depth: a shorter series acts like more damping."
        )

    def _batches(self, depth: int, seed: int) -> Iterator[Tensor | None]:
        """Rows of each term: permutations of all rows, cut into batches; None is all rows."""
        n, size = len(self.problem.examples), self.rows_per_step
        rng, order = np.random.RandomState(seed % 2**32), np.empty(0, dtype=np.int64)
        for _ in range(depth):
            if size is None:
                yield None
                continue
            if len(order) < size:
                order = rng.permutation(n)
            rows, order = order[:size], order[size:]
            yield torch.as_tensor(np.sort(rows), device=self.problem.penalty.device)

    def _largest(self) -> float:
        """Largest eigenvalue of the data's part on the whole data and on some batches."""
        found = [_largest_eigenvalue(self.operator, None, self.seed)]
        if self.rows_per_step is not None:
            found += [
                _largest_eigenvalue(self.operator, rows, self.seed)
                for rows in self._batches(N_BATCHES, self.seed)
            ]
        return max(found) + float(self.problem.penalty.max())

    def _smallest(self) -> float:
        """The penalty; for a Hessian, its smallest eigenvalue if that is smaller."""
        smallest = float(self.problem.penalty.min())
        if self.operator.matrix == "hessian":
            smallest = min(
                smallest, extreme_eigenvalues(self.operator, self.operator.diagonal())[0]
            )
        return smallest

    def _scale(self, damping: float) -> float:
        if self.settings.scale is not None:
            return float(self.settings.scale)
        return SAFETY * (self.largest_ + damping)

    def _depth(self, scale: float, damping: float) -> tuple[int, bool]:
        """Number of terms, and whether they are enough for ``rtol``."""
        slowest = self.smallest_ + damping
        needed = ceil(log(1 / self.rtol) * scale / slowest) if slowest > 0 else LONGEST + 1
        depth = min(needed, LONGEST) if self.settings.depth is None else self.settings.depth
        return depth, depth >= needed

    def _explain(self, t: int, growth: float, scale: float, damping: float) -> None:
        raise ValueError(
            f"damping: LiSSA diverges at {damping:.3g}: after {t} terms, ‖h‖ is {growth:.3g} times "
            f"‖v‖; without divergence it is at most {t + 1} times. scale={scale:.3g}. The largest "
            f"eigenvalue found is {self.largest_:.3g}; for every batch, scale must be above half "
            "of the sum of largest eigenvalue and damping. The smallest eigenvalue, "
            f"{self.smallest_:.3g}, must be above {-damping:.3g}. Use scale=None or a larger one, "
            f"a larger rows_per_step, or a larger damping{self.or_ggn}."
        )

    def wanted(self, damping: float) -> float:
        """Batch noise does not count as a failure; a series that is too short does."""
        long_enough = self._depth(self._scale(damping), damping)[1]
        return np.inf if self.rows_per_step is not None and long_enough else self.rtol

    def _remedy(self) -> str:
        return "Raise depth (None chooses it) or the damping, or use ConjugateGradient()."


class _DataProducts:
    """Products with the data's part; a long series on all rows forms the matrix for them.

    It is formed when as many products were taken as it needs, so that this costs no more than
    twice what was needed anyway.

    Parameters
    ----------
    operator : CurvatureOperator
    """

    def __init__(self, operator: CurvatureOperator):
        self.operator, self.n_taken = operator, 0
        self.matrix: Tensor | None = None

    def __call__(self, vectors: Tensor, rows: Tensor | None) -> Tensor:
        """Products of vectors (k, p) with the data's part on some rows, or on all."""
        if rows is not None:
            return self.operator.data(vectors, rows)
        self.n_taken += len(vectors)
        if self.matrix is None and self._pays(vectors):
            self.matrix = self.operator.data(torch.eye(vectors.shape[1]).to(vectors))
        # H F, with the rows of H
        return self.operator.data(vectors) if self.matrix is None else vectors @ self.matrix

    def _pays(self, vectors: Tensor) -> bool:
        p, memory = vectors.shape[1], self.operator.problem.held_memory
        return self.n_taken > p and 2 * p * p * vectors.element_size() <= memory // 4


def _largest_eigenvalue(operator: CurvatureOperator, rows: Tensor | None, seed: int) -> float:
    start = normal_rows(2, operator.diagonal(), seed)
    found = lanczos(lambda v: operator.data(v, rows), start, 1, 24, tolerance=0.02)
    return max(0.0, float(found.values.max()))
