"""What a curvature is taken of: a model, its training examples and its penalty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sklearn.utils import check_random_state
from torch import Tensor

from influencekit.data import Examples
from influencekit.gradients import GradientEngine, Gradients

__all__ = ["CurvatureProblem", "drawn_seed"]


@dataclass(frozen=True)
class CurvatureProblem:
    """Everything that a curvature needs to know.

    Attributes
    ----------
    train : Gradients
        Of the training examples' losses: what scores are products with.
    example_weights : Tensor of shape (n,), float64
        ``w_i / W``: each example's share of the mean loss.
    penalty : Tensor of shape (p,), float64
        Diagonal of the penalty beside the mean loss.
    projection_dim : int or None
        Dimensions to project gradients to, for curvatures that do.
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
        """Engine of the model; holds its task, batch size, memory and progress."""
        return self.train.engine

    @property
    def examples(self) -> Examples:
        """The training examples."""
        return self.train.examples

    @property
    def max_memory(self) -> int:
        """Bytes that may be taken."""
        return self.engine.max_memory

    def take(self, rows: Tensor) -> CurvatureProblem:
        """The problem with some of its training examples, whose weights stay."""
        weights = self.example_weights[rows.to(self.example_weights.device)]
        return replace(self, train=self.train.take(rows), example_weights=weights)


def drawn_seed(random_state, problem: CurvatureProblem) -> int:
    """Seed from a curvature's own random state, or where it has none the attributor's."""
    drawn = problem.random_state if random_state is None else random_state
    return int(check_random_state(drawn).randint(2**31 - 1))
