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
from influencekit.models._outputs import NegativeLoss, one_number_each
from influencekit.models._task import Task
from influencekit.models.losses._base import OutputLoss

__all__ = [
    "CotangentFunction",
    "Shifted",
    "Stacked",
    "at_rows",
    "ggn_cotangent",
    "has_one_row",
    "loss_cotangent",
    "output_cotangent",
    "sampled_cotangent",
    "signs_cotangent",
]

#: ``(outputs (n, *output_shape), targets) -> (n, R, *output_shape)``.  Targets are a Tensor, or
#: None for queries without targets (``Any`` below, because losses and outputs use them in different
#: ways).
CotangentFunction = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class _OutputCotangent:
    """Cotangents of a scalar function; those of the same function are equal."""

    function: Callable[[Tensor, Any], Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        if isinstance(self.function, (OutputLoss, NegativeLoss)) and targets is not None:
            found = self.function.output_gradient(outputs, targets)
            if found is not None:
                return found[:, None]
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
        self.task.loss.check_size(outputs)
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
class _SignsCotangent:
    """Columns of the output Hessian's factor, added with random signs."""

    task: Task
    seed: int
    n_samples: int
    start: int = 0

    def at(self, rows: slice) -> _SignsCotangent:
        return replace(self, start=rows.start)

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        self.task.loss.check_size(outputs)
        factor = self.task.loss.hessian_factor(outputs.detach(), targets).factor
        n, rank = len(outputs), factor.shape[-1]
        stop = self.start + n
        numbers = uniform_rows(self.seed, self.start, stop, self.n_samples * rank)
        signs = torch.from_numpy(numbers).to(outputs.device).view(n, -1, rank).sub(0.5).sign()
        # L r with E[r rᵀ] = I
        mixed = signs.to(factor) @ factor.mT / self.n_samples**0.5
        return mixed.reshape(n, self.n_samples, *outputs.shape[1:])


@dataclass(frozen=True)
class Stacked:
    """Cotangents of two functions for each example, the second after the first."""

    first: CotangentFunction
    second: CotangentFunction

    def at(self, rows: slice) -> Stacked:
        return Stacked(at_rows(self.first, rows), at_rows(self.second, rows))

    def __call__(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        parts = [self.first(outputs, targets), self.second(outputs, targets)]
        return torch.cat([part.to(outputs.dtype) for part in parts], dim=1)


@dataclass(frozen=True)
class Shifted:
    """The cotangents of examples that are part of others, from the position ``start``."""

    cotangent: CotangentFunction
    start: int

    def at(self, rows: slice) -> CotangentFunction:
        return at_rows(self.cotangent, slice(self.start + rows.start, self.start + rows.stop))

    def __call__(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        return self.at(slice(0, len(outputs)))(outputs, targets)


def at_rows(cotangent: CotangentFunction, rows: slice) -> CotangentFunction:
    """The cotangent function of the batch at ``rows`` of its examples."""
    if isinstance(cotangent, (_SampledCotangent, _SignsCotangent, Stacked, Shifted)):
        return cotangent.at(rows)
    return cotangent


def has_one_row(cotangent: CotangentFunction) -> bool:
    """Whether a function is known to give one cotangent for each example."""
    return isinstance(cotangent, _OutputCotangent)


def output_cotangent(function: Callable[[Tensor, Any], Tensor]) -> CotangentFunction:
    """Cotangents whose pull-back is the gradient of a scalar function of the outputs.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets) -> (n,)``, one number for each example.

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
    this is the true Fisher matrix by sampling. It takes ``n_samples`` backward passes, while
    :func:`ggn_cotangent` takes as many as its factor has columns.

    Parameters
    ----------
    task : Task
    n_samples : int, default=1
        Number of draws for each example; its rows are scaled by ``1 / sqrt(n_samples)``.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, n_samples, *output_shape)``.

    Raises
    ------
    ValueError
        If ``n_samples`` is not a positive integer.

    Notes
    -----
    Labels are drawn for classifiers and for tokens of sequences. For losses of real numbers, normal
    targets with the variance of the loss are drawn, see
    :meth:`influencekit.models.OutputLoss.sampled_gradients`.

    An example's draws depend only on the seed and its position in the Examples that the engine
    iterates over, not on the batch size or the number of calls. Outside the engine, the function
    treats a batch as the first one; ``.at(rows)`` is the function of the batch at the slice
    ``rows``.

    References
    ----------
    .. [1] J. Martens, R. Grosse. Optimizing neural networks with Kronecker-factored approximate
       curvature. ICML 2015, arXiv 1503.05671.
    """
    return _SampledCotangent(task, *_drawn(n_samples, random_state))


def signs_cotangent(
    task: Task, n_samples: int = 1, *, random_state: Any = None
) -> CotangentFunction:
    """Cotangents whose pull-backs are rows of the Gauss-Newton factor, added with random signs.

    The outer products of an example's pull-backs sum to its Gauss-Newton matrix in expectation, as
    those of :func:`sampled_cotangent` do, with a smaller variance where the model is sure: an
    unlikely label has a large gradient that is rarely drawn, and here each column counts.

    Parameters
    ----------
    task : Task
    n_samples : int, default=1
        Number of draws for each example; its rows are scaled by ``1 / sqrt(n_samples)``.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    callable
        ``(outputs, targets) -> (n, n_samples, *output_shape)``.

    Raises
    ------
    ValueError
        If ``n_samples`` is not a positive integer.

    Notes
    -----
    Draws depend on the seed and the example's position, as in :func:`sampled_cotangent`.

    References
    ----------
    .. [1] M. F. Hutchinson. A stochastic estimator of the trace of the influence matrix for
       Laplacian smoothing splines. Communications in Statistics, 1989.
    """
    return _SignsCotangent(task, *_drawn(n_samples, random_state))


def _drawn(n_samples: int, random_state: Any) -> tuple[int, int]:
    """Seed of the draws, and their number."""
    if isinstance(n_samples, bool) or not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples: got {n_samples!r}; accepted is a positive int.")
    return int(check_random_state(random_state).randint(2**31 - 1)), int(n_samples)
