"""The Gauss-Newton matrix of some training rows: what the default takes for long tables."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import ClassVar

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem, CurvatureRows
from influencekit.curvature._spectrum import Spectrum
from influencekit.curvature.exact._exact import GaussNewton, decompose
from influencekit.curvature.exact._unheld import held_train
from influencekit.gradients._cotangents import ggn_cotangent
from influencekit.gradients._gradients import Gradients
from influencekit.utils.validation import Interval

__all__ = ["LONG_TABLE", "GaussNewtonOfSome"]

#: Number of training rows from which the default takes the curvature of some of them, and of how
#: many.
LONG_TABLE, N_ROWS = 100_000, 50_000


class GaussNewtonOfSome(GaussNewton):
    """Gauss-Newton matrix of some rows, evenly spaced in the order of their gradients' sizes.

    The rows depend on their content and not on their order. A row of a whole weight counts as that
    many equal rows, and one of weight 0 as none. Scores are still those of all rows.

    Parameters
    ----------
    n_rows : int, default=50_000

    Notes
    -----
    With an effective dimension d, the damped curvature is off by about √(d / n_rows): 3% for 50
    directions, and 12% for 769 parameters without damping.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_rows": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_rows: int = N_ROWS):
        self.n_rows = n_rows

    @property
    def name(self) -> str:  # type: ignore[override]  # others have one name for all parameters
        """Which matrix it is, and of how many rows."""
        return f"ggn of {self.n_rows:,} rows"

    def factorize(self, problem: CurvatureProblem) -> Spectrum:
        problem = replace(problem, train=held_train(problem))
        task, train = problem.engine.task, problem.train
        sizes, weights = train.squared_norms(task.dtype), problem.example_weights
        picked, shares = evenly_spaced(sizes.cpu(), weights.cpu(), self.n_rows)
        rows = Gradients(train.engine, train.examples.take(picked), ggn_cotangent(task))
        return decompose(CurvatureRows(problem, rows, shares=shares.to(weights)))


def evenly_spaced(sizes: Tensor, weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Up to k rows, evenly spaced in the order of their sizes, and their shares.

    Parameters
    ----------
    sizes : Tensor of shape (n,)
    weights : Tensor of shape (n,), float64
        A row has as many places in the order as its weight says; rows of weight 0 have none.
    k : int

    Returns
    -------
    rows : Tensor of shape (n_rows,)
        Ascending positions.
    shares : Tensor of shape (n_rows,), float64
        What they weigh; of sum 1.

    Examples
    --------
    >>> import torch
    >>> sizes, weights = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 6.0]), torch.ones(6).double()
    >>> evenly_spaced(sizes, weights, 3)[0]
    tensor([2, 3, 5])
    """
    rows = torch.nonzero(weights)[:, 0]
    if len(rows) <= k:
        return rows, weights[rows] / weights.sum()
    rows = rows[torch.argsort(sizes[rows], stable=True)]
    ends = torch.cumsum(weights[rows] / weights[rows].min(), 0)
    # the middle one of each k-th of all places, and a little more, so that rounding decides nothing
    middle = ((2 * torch.arange(k) + 1) * ends[-1] + 0.01) / (2 * k)
    at = torch.searchsorted(ends, middle, right=True).clamp_max(len(rows) - 1)
    picked, counts = rows[at].unique(return_counts=True)
    return picked, counts.double() / k
