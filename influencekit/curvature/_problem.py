"""Curvatures, the problems that they factorize, and curvatures as sums over rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from sklearn.utils import check_random_state
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import ggn_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.utils.validation import SuggestingEstimator, present

__all__ = [
    "CURVATURES",
    "Curvature",
    "CurvatureProblem",
    "CurvatureRows",
    "drawn_seed",
    "fisher_rows",
    "ggn_rows",
    "make_curvature",
    "nonuniform_penalty",
]


#: Curvatures by name.
CURVATURES: dict[str, type[Curvature]] = {}


@dataclass(frozen=True)
class CurvatureProblem:
    """Everything that a curvature needs to know.

    Attributes
    ----------
    train : Gradients
        Gradients of the training examples' losses, the right-hand side of every score.
    example_weights : Tensor of shape (n,), float64
        ``w_i / W``: each example's share of the mean loss.
    penalty : Tensor of shape (p,), float64
        Diagonal of the Hessian of the penalty, which is added to the mean loss.
    projection_dim : int or None
        Number of dimensions to project gradients to, for curvatures that project.
    projection : str
        Kind of random projection.
    random_state : int, RandomState instance or None
    """

    train: Gradients
    example_weights: Tensor
    penalty: Tensor
    projection_dim: int | None = None
    projection: str = "auto"
    random_state: Any = None

    @property
    def engine(self) -> GradientEngine:
        """Engine of the model, with its task, batch size, memory limit and progress bar."""
        return self.train.engine

    @property
    def examples(self) -> Examples:
        """The training examples."""
        return self.train.examples

    @property
    def max_memory(self) -> int:
        """Bytes that choose the method."""
        return self.engine.max_memory

    @property
    def held_memory(self) -> int:
        """Bytes of all that may be held to save time."""
        return self.engine.held_memory

    def take(self, rows: Tensor) -> CurvatureProblem:
        """The problem with some of its training examples, with unchanged weights."""
        weights = self.example_weights[rows.to(self.example_weights.device)]
        return replace(self, train=self.train.take(rows), example_weights=weights)


class Curvature(SuggestingEstimator, ABC):
    """Which matrix is used as curvature, and how its damped inverse is applied.

    A curvature holds only parameters; :meth:`factorize` returns what was computed.  Authors
    write ``__init__``, which only stores parameters, ``_parameter_constraints``, which says what
    they accept, and :meth:`factorize`.  They set ``projects = True`` if it reads
    ``problem.projection_dim``. Pass an object of the class to an attributor as ``curvature``. Names
    such as "ggn" are only for the package's own curvatures, ``class GaussNewton(Curvature,
    name="ggn")``.
    """

    #: Whether ``projection_dim`` and ``projection`` of the attributor are used.
    projects: ClassVar[bool] = False
    #: Whether it can use a linear model with centered features, and adapts the damping to that.
    centers: ClassVar[bool] = False
    #: Its name in ``CURVATURES`` and in messages.
    name: ClassVar[str] = ""
    _parameter_constraints: ClassVar[dict[str, list]] = {}

    def __init_subclass__(cls, name: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if name is not None:
            CURVATURES[name] = cls
            cls.name = name

    @property
    def absolute_damping(self) -> bool:
        """Whether the damping is λ itself, not a multiple of a scale of the data."""
        return True

    @abstractmethod
    def factorize(self, problem: CurvatureProblem) -> Any:
        """Do the work that does not depend on the damping.

        Parameters
        ----------
        problem : CurvatureProblem
            Training gradients, their weights, the penalty.

        Returns
        -------
        FittedCurvature
            The factorized curvature, which keeps ``problem``.
        """


def make_curvature(curvature: str | Curvature) -> Curvature:
    """The curvature with a name and default parameters; an object is returned unchanged.

    Parameters
    ----------
    curvature : str or Curvature
        A key of ``CURVATURES``, or an object.

    Returns
    -------
    Curvature
    """
    return CURVATURES[curvature]() if isinstance(curvature, str) else curvature


def drawn_seed(random_state: Any, problem: CurvatureProblem) -> int:
    """Seed from a curvature's own random state, or from the attributor's if it has none."""
    drawn = problem.random_state if random_state is None else random_state
    return int(check_random_state(drawn).randint(2**31 - 1))


def nonuniform_penalty(penalty: Tensor) -> tuple[float, Tensor]:
    """Most common penalty and the positions of all others.

    Examples
    --------
    >>> import torch
    >>> nonuniform_penalty(torch.tensor([0.1, 0.1, 0.0]).double())
    (0.1..., tensor([2]))
    """
    common = torch.mode(penalty).values
    return float(common), torch.nonzero(penalty != common)[:, 0]


@dataclass
class CurvatureRows:
    """A data curvature ``F = Σ_r ω_r b_r b_rᵀ`` over the N rows of some gradients.

    Attributes
    ----------
    problem : CurvatureProblem
    rows : Gradients
        The rows ``b_r`` of all training examples: ``problem.train.along(cotangent)``.
    find_coordinates : callable or None, default=None
        Computes ``gradient_coordinates``; None if gradients are not sums of the rows.
    shares : Tensor of float64, default=None
        Weights of the examples that the rows are of, if these are not all training examples.
    """

    problem: CurvatureProblem
    rows: Gradients
    find_coordinates: Callable[[], Tensor | None] | None = None
    shares: Tensor | None = None

    @cached_property
    def gradient_coordinates(self) -> Tensor | None:
        """``c`` with ``g_i = Σ_r c_ir b_ir`` for the training gradients, (n, R), or None."""
        return None if self.find_coordinates is None else self.find_coordinates()

    @property
    def weights(self) -> Tensor:
        """ω, shape (N,)."""
        weights = self.problem.example_weights if self.shares is None else self.shares
        return weights.repeat_interleave(self.rows.rows_per_example)

    @property
    def tolerance(self) -> float:
        """Relative size below which an eigenvalue is rounding noise of the gradients."""
        task = self.problem.engine.task
        size = min(self.rows.n_rows, task.n_parameters) if task.dtype == torch.float64 else 1
        return size * torch.finfo(task.dtype).eps


def fisher_rows(problem: CurvatureProblem) -> CurvatureRows:
    """Empirical Fisher: the rows are the training examples' own loss gradients.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    CurvatureRows
    """
    weights = problem.example_weights
    return CurvatureRows(problem, problem.train, lambda: torch.ones_like(weights)[:, None])


def ggn_rows(problem: CurvatureProblem) -> CurvatureRows:
    """Generalized Gauss-Newton: the rows are ``J_iᵀ L_i`` with the loss Hessian ``L_i L_iᵀ``.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    CurvatureRows
    """
    rows = problem.train.along(ggn_cotangent(problem.engine.task))
    return CurvatureRows(problem, rows, lambda: _loss_coordinates(problem))


@torch.no_grad()
def _loss_coordinates(problem: CurvatureProblem) -> Tensor | None:
    """Loss gradients in the columns of the output Hessian's factor, float64."""
    task, examples, parts = problem.engine.task, problem.examples, []
    for batch, outputs in problem.engine.passes(examples, _hessian_batch(problem.engine, examples)):
        targets = present(batch.targets, "training targets")
        task.loss.check_size(outputs)
        found = task.loss.hessian_factor(outputs, targets).coordinates
        if found is None:
            return None
        parts.append(found)
    return torch.cat(parts).to(torch.float64)


def _hessian_batch(engine: GradientEngine, examples: Examples) -> int:
    """Number of examples whose output Hessians, and a few such matrices, fit into memory."""
    first = next(iter(examples.batches(1)))
    n_outputs = engine.task.forward(first.inputs).numel()
    room = engine.held_memory // 4 // (5 * 8 * n_outputs**2)
    return int(min(256, max(1, room)))
