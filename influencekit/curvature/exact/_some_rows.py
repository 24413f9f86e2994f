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

    The rows depend on their content and not on their order. Scores are still those of all rows.

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

    def factorize(self, problem: CurvatureProblem) -> Spectrum:
        problem = replace(problem, train=held_train(problem))
        task, train = problem.engine.task, problem.train
        picked = evenly_spaced(train.squared_norms(task.dtype), self.n_rows)
        rows = Gradients(train.engine, train.examples.take(picked), ggn_cotangent(task))
        return decompose(CurvatureRows(problem, rows, picked=picked))


def evenly_spaced(sizes: Tensor, k: int) -> Tensor:
    """Positions of k rows, evenly spaced in the order of their sizes; ascending.

    Examples
    --------
    >>> import torch
    >>> evenly_spaced(torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 6.0]), 3)
    tensor([2, 3, 5])
    """
    n = len(sizes)
    middle = (2 * torch.arange(min(k, n)) + 1) * n // (2 * min(k, n))
    return torch.argsort(sizes.cpu(), stable=True)[middle].sort().values
