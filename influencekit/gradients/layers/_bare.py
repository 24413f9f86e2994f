"""Parameters that a model uses itself, not in a layer, and those that it does not use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock

__all__ = ["BareParameter"]


@dataclass(frozen=True, eq=False)
class BareParameter:
    """A parameter that takes part in a model's graph by broadcasting: a class token, positions.

    It is replaced by a tensor with one copy for each example, whose gradient is one for each
    example too. One that the outputs do not depend on has the gradient 0.

    Parameters
    ----------
    name : str
        The parameter's name in ``task.module``.
    parameter : Tensor
    columns : tuple of slice
        Its positions in the flat gradient.
    ones : int or None
        Dimensions of length 1 between the examples and the parameter's own; None lets the
        examples take the place of its first dimension, of length 1.
    used : bool, default=True
    """

    name: str
    parameter: Tensor
    columns: tuple[slice, ...]
    ones: int | None = 0
    used: bool = True

    has_factors: ClassVar[bool] = False

    @property
    def place(self) -> int:
        """First column."""
        return self.columns[0].start

    @property
    def trained(self) -> list[Tensor]:
        """The parameter, in a list."""
        return [self.parameter]

    @property
    def spec(self) -> BlockSpec:
        """Position of the block."""
        return BlockSpec(self.name, self.columns)

    def spread(self, n: int) -> Tensor:
        """The parameter with one copy for each of n examples, in its graph."""
        own = self.parameter
        own = own if self.ones is None else own.view(1, *[1] * self.ones, *own.shape)
        return own.expand(n, *own.shape[1:])

    def block(
        self,
        calls: list[tuple[Tensor, Tensor]],
        n: int,
        keep_factors: bool,  # noqa: ARG002  layers with factors take it
    ) -> DenseBlock:
        """Gradients from those (R, n, ...) with respect to all copies."""
        rows = torch.stack([g for _, g in calls]).sum(0).transpose(0, 1)
        return DenseBlock(self.spec, rows.reshape(n, rows.shape[1], -1))

    def zeros(self, n: int, like: Tensor) -> DenseBlock:
        """Gradients (n, R, width) where the parameter is not used."""
        return DenseBlock(self.spec, like.new_zeros(n, like.shape[1], self.spec.width))
