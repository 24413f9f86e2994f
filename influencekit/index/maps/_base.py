"""From examples to coordinates: a score is the inner product of a query's and a row's numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from influencekit._fitted import training_weights
from influencekit.data._examples import Examples
from influencekit.gradients._engine import GradientEngine

__all__ = ["CoordinateMap"]


class CoordinateMap(ABC):
    """How examples of one model become coordinates; holds nothing of the training examples.

    Attributes
    ----------
    engine : GradientEngine
        Takes the training gradients.
    output : str or callable
        The explained output.
    dim : int
        Number of coordinates.
    total : float
        What the weights of rows are divided by.
    """

    engine: GradientEngine
    output: Any
    dim: int
    total: float

    @abstractmethod
    def rows(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Coordinates of training examples, (n, dim), and their own products, (n,), float64."""

    @abstractmethod
    def queries(self, examples: Examples) -> Tensor:
        """Coordinates of queries, (m, dim), float64: products with rows have the scores' size."""

    @abstractmethod
    def metric(self) -> Tensor:
        """Weights (dim,) of squared coordinates of rows in self-influence."""

    def shares(self, examples: Examples) -> Tensor:
        """Weight of each training example as its score counts it, (n,), float64."""
        return training_weights(self.engine.task, examples) / self.total

    def slopes(self, examples: Examples) -> Tensor:
        """Factors (n,) of rows, which lists of models share."""
        return torch.ones(len(examples), dtype=torch.float64)

    def whole(self) -> CoordinateMap:
        """The map without a projection that the index adds: its scores are the attributor's."""
        return self

    def explaining(self, output: Any) -> Self:
        """The same map for queries with another output."""
        return replace(self, output=output)  # type: ignore[type-var]
