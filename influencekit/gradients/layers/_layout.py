"""Where every trainable parameter's gradient comes from: what discovery found out of a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.gradients.layers._rules import LayerRule
from influencekit.models import Task

__all__ = ["REST", "Layer", "Layout", "parameter_columns"]

#: Name of the block that collects everything without factors.
REST = "rest"


def parameter_columns(task: Task) -> dict[str, slice]:
    """Position of every trainable parameter in the flat gradient."""
    columns, start = {}, 0
    for name, p in task.parameters.items():
        columns[name] = slice(start, start + p.numel())
        start += p.numel()
    return columns


@dataclass(frozen=True, eq=False)
class Layer:
    """A module whose parameters' gradients are made from its inputs and output gradients.

    Parameters
    ----------
    name : str
        The module's name in ``task.module``.
    module : torch.nn.Module
    rule : LayerRule
    trains_weight, trains_bias : bool
    columns : tuple of slice
        Positions of the trainable ones among weight and bias.
    batch_dim : int
        Dimension of inputs and outputs that runs over examples.
    shared : bool
        Whether other layers have the same weight (tied embeddings).  Their gradients are
        multiplied out and summed.
    """

    name: str
    module: nn.Module
    rule: LayerRule
    trains_weight: bool
    trains_bias: bool
    columns: tuple[slice, ...]
    batch_dim: int = 0
    shared: bool = False

    @property
    def has_factors(self) -> bool:
        """Whether the gradient is kept as factors."""
        return self._makes_factors and not self.shared

    @property
    def place(self) -> int:
        """Where its columns begin: the same for layers that share a weight."""
        return self.columns[0].start

    @property
    def _makes_factors(self) -> bool:
        return self.rule.dense is None and self.trains_weight

    @cached_property
    def spec(self) -> BlockSpec:
        """The block's place and shape."""
        if not self._makes_factors:
            return BlockSpec(self.name, self.columns)
        weight = self.module.weight
        d_out = len(weight)
        return BlockSpec(self.name, self.columns, d_out, weight.numel() // d_out, self.trains_bias)

    def block(self, calls: list[tuple[Tensor, Tensor]], n: int, keep_factors: bool) -> Block:
        """Gradients from the (inputs, output gradients (R, ...)) of every call.

        Small weights applied at many positions are multiplied out at once unless
        ``keep_factors``: the dense gradient then takes less memory than its factors.
        """
        parts = [self._one_call(x, g, n) for x, g in calls]
        if not self._makes_factors:
            rows = parts[0][1] if len(parts) == 1 else sum(part[1] for part in parts)
            return DenseBlock(self.spec, rows)
        inputs = parts[0][0] if len(parts) == 1 else torch.cat([p[0] for p in parts], dim=1)
        b = parts[0][1] if len(parts) == 1 else torch.cat([p[1] for p in parts], dim=2)
        if not inputs.is_floating_point():
            block: Block = IndexBlock(self.spec, inputs, b)
            return self._multiplied(block) if self.shared else block
        block = OuterBlock(self.spec, inputs, b)
        size, per_row = self.spec.d_in * self.spec.d_out, b.shape[1] * self.spec.d_out
        if self.shared:
            return self._multiplied(block)
        if keep_factors or b.shape[1] * size > b.shape[2] * (self.spec.d_in + per_row):
            return block
        return self._multiplied(block)

    def _multiplied(self, block: Block) -> DenseBlock:
        rows = block.dense().unflatten(0, (block.n_examples, block.rows_per_example))
        return DenseBlock(self.spec, rows)

    def zeros(self, n: int, like: Tensor) -> DenseBlock:
        """Gradients (n, R, width) of a batch in which the layer was not called."""
        return DenseBlock(self.spec, like.new_zeros(n, like.shape[1], self.spec.width))

    def _one_call(self, x: Tensor, g: Tensor, n: int) -> tuple[Tensor | None, Tensor]:
        x = self._examples_first(x, 0, n)
        g = self._examples_first(g, 1, n).transpose(0, 1)
        inputs = None
        if self.trains_weight:
            inputs = self.rule.inputs(self.module, x)
        if self._makes_factors:
            return inputs, self.rule.outputs(self.module, g, inputs)
        if self.rule.dense is None:  # only the bias of a layer with factors is trained
            return None, self.rule.outputs(self.module, g, inputs).sum(2)
        if inputs is None:
            inputs = x
        weight, bias = self.rule.dense(self.module, inputs, g)
        wanted = [weight] * self.trains_weight + [bias] * self.trains_bias
        return None, wanted[0] if len(wanted) == 1 else torch.cat(wanted, dim=2)

    def _examples_first(self, x: Tensor, lead: int, n: int) -> Tensor:
        """Examples in dimension ``lead``; rows of one example laid side by side are split."""
        if self.batch_dim:
            x = x.movedim(lead + self.batch_dim, lead)
        return x if x.shape[lead] == n else x.unflatten(lead, (n, -1))


@dataclass(frozen=True, eq=False)
class Layout:
    """How the gradient of a task is made: layers by rule, the rest by differentiation.

    Parameters
    ----------
    layers : tuple of Layer
    rest : tuple of str
        Names of the parameters that take the dense fallback.
    rest_vmaps : bool
        Whether the fallback works under ``torch.func.vmap``; else it is a loop.
    n_parameters : int
    activation_bytes : int
        Bytes that the forward pass keeps for one example.
    """

    layers: tuple[Layer, ...]
    rest: tuple[str, ...]
    rest_columns: tuple[slice, ...]
    rest_vmaps: bool
    n_parameters: int
    activation_bytes: int

    @cached_property
    def rest_spec(self) -> BlockSpec:
        """Place of the block that collects everything without factors."""
        groups = {layer.place: layer.columns for layer in self.layers if not layer.has_factors}
        columns = [c for group in groups.values() for c in group]
        return BlockSpec(REST, (*columns, *self.rest_columns))

    @cached_property
    def specs(self) -> tuple[BlockSpec, ...]:
        """Specs of all blocks in order."""
        specs = tuple(layer.spec for layer in self.layers if layer.has_factors)
        return (*specs, self.rest_spec) if self.rest_spec.width else specs
