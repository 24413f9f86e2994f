"""Ready-made cotangent functions: which output-space vectors are pulled back to parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from numbers import Integral
from typing import Any

import torch
from sklearn.utils import check_random_state
from torch import Tensor

from influencekit.gradients.projections._random import uniform_rows
from influencekit.models._outputs import one_number_each
from influencekit.models._task import Task

__all__ = [
    "CotangentFunction",
    "Stacked",
    "at_rows",
    "ggn_cotangent",
    "loss_cotangent",
    "output_cotangent",
    "sampled_cotangent",
]

#: ``(outputs (n, *output_shape), targets) -> (n, R, *output_shape)``.  Targets are a Tensor, or
#: None for queries without; what a loss and an output make of them is their own (``Any`` below).
CotangentFunction = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class _OutputCotangent:
    """Cotangents of a scalar function; two of the same function are equal."""

    function: Callable[[Tensor, Any], Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            values = one_number_each(self.function(outputs, targets), len(outputs))
            total = values.sum()
        if not values.requires_grad:
            return torch.zeros_like(outputs)[:, None]
        return torch.autograd.grad(total, outputs)[0][:, None]


@dataclass(frozen=True)
class _GaussNewtonCotangent:
    """Columns of the factor of the loss's output-space Hessian."""

    task: Task

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        factor = self.task.loss.hessian_factor(outputs.detach(), targets).factor
        return factor.mT.reshape(len(outputs), factor.shape[-1], *outputs.shape[1:])


@dataclass(frozen=True)
class _SampledCotangent:
    """Output gradients at targets drawn from the model; ``start`` is the batch's first row."""

    task: Task
    seed: int
    n_samples: int
    start: int = 0

    def at(self, rows: slice) -> _SampledCotangent:
        return replace(self, start=rows.start)

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        outputs = outputs.detach()

        def draw(*shape: int) -> Tensor:
            stop = self.start + len(outputs)
            numbers = uniform_rows(self.seed, self.start, stop, self.n_samples * prod(shape))
            return torch.from_numpy(numbers).to(outputs.device).view(-1, self.n_samples, *shape)

        gradients = self.task.loss.sampled_gradients(outputs, targets, draw)
        return gradients / self.n_samples**0.5


@dataclass(frozen=True)
class Stacked:
    """Cotangents of two functions for each example, those of the second behind."""

    first: CotangentFunction
    second: CotangentFunction

    def at(self, rows: slice) -> Stacked:
        return Stacked(at_rows(self.first, rows), at_rows(self.second, rows))

    def __call__(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        parts = [self.first(outputs, targets), self.second(outputs, targets)]
        return torch.cat([part.to(outputs.dtype) for part in parts], dim=1)


def at_rows(cotangent: CotangentFunction, rows: slice) -> CotangentFunction:
    """The cotangent function of a batch that stands at ``rows`` of its examples."""
    return cotangent.at(rows) if isinstance(cotangent, (_SampledCotangent, Stacked)) else cotangent


def output_cotangent(function: Callable[[Tensor, Any], Tensor]) -> CotangentFunction:
    """Cotangents whose pull-back is the gradient of a scalar function of the outputs.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets) -> (n,)``, one number an example.

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, 1, *output_shape)``.
    """
    return _OutputCotangent(function)


def loss_cotangent(task: Task) -> CotangentFunction:
    """Cotangents whose pull-back is the gradient of the per-example training loss (R = 1).

    Parameters
    ----------
    task : Task

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, 1, *output_shape)``.
    """
    return _OutputCotangent(task.loss)


def ggn_cotangent(task: Task) -> CotangentFunction:
    """Cotangents whose pull-backs are rows of the Gauss-Newton factor.

    Row r of an example is ``Jᵀ L[:, r]`` with ``L Lᵀ`` the Hessian of the loss with respect
    to the outputs, so that the Gauss-Newton matrix is the sum of outer products of all rows.

    Parameters
    ----------
    task : Task

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, rank, *output_shape)``.
    """
    return _GaussNewtonCotangent(task)


def sampled_cotangent(
    task: Task, n_samples: int = 1, *, random_state: Any = None
) -> CotangentFunction:
    """Cotangents of the loss at targets drawn from the model's own distribution.

    The outer products of an example's pull-backs sum to its Gauss-Newton matrix in expectation:
    the true Fisher matrix by sampling, at ``n_samples`` backward passes an example, where
    :func:`ggn_cotangent` takes as many as its factor has columns.

    Parameters
    ----------
    task : Task
    n_samples : int, default=1
        Draws for each example; its rows are scaled by ``1 / sqrt(n_samples)``.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, n_samples, *output_shape)``.

    Raises
    ------
    ValueError
        If ``n_samples`` is no positive integer.

    Notes
    -----
    Labels are drawn for classifiers and for tokens of sequences.  Losses of real numbers draw
    normal ones with the variance of the loss, see
    :meth:`influencekit.models.OutputLoss.sampled_gradients`.

    An example's draws follow from the seed and its position in the Examples that the engine goes
    through, so they depend neither on the batch size nor on how often they are asked for.  Called
    outside the engine the function takes a batch for the first one; ``.at(rows)`` is the function
    of the batch at the slice ``rows``.

    References
    ----------
    .. [1] J. Martens, R. Grosse. Optimizing neural networks with Kronecker-factored approximate
       curvature. ICML 2015, arXiv 1503.05671.
    """
    if isinstance(n_samples, bool) or not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples: got {n_samples!r}; accepted is a positive int.")
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    return _SampledCotangent(task, seed, int(n_samples))
