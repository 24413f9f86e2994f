"""Layers whose gradients are computed from recorded inputs and output gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.gradients.layers._bare import BareParameter
from influencekit.gradients.layers._image_format import as_taken
from influencekit.gradients.layers._linear_calls import linear_calls, unroll
from influencekit.gradients.layers._rules import LayerRule
from influencekit.models._task import Task
from influencekit.utils._torch import count_rows, plain_kernels
from influencekit.utils.validation import present

__all__ = [
    "LOG",
    "AnyLayer",
    "Layer",
    "forward_recorded",
    "layer_blocks",
]

#: Says at level DEBUG which layers are differentiated in general, and why.
LOG = logging.getLogger("influencekit.gradients")


@dataclass(frozen=True, eq=False)
class Layer:
    """A module whose parameter gradients are computed from its inputs and output gradients.

    Parameters
    ----------
    name : str
        The module's name in ``task.module``.
    module : torch.nn.Module
    rule : LayerRule
    trains_weight, trains_bias : bool
    columns : tuple of slice
        Positions of the trainable parameters among weight and bias.
    batch_dim : int
        Batch dimension of inputs and outputs.
    shared : bool
        Whether other layers have the same weight (tied embeddings).  Their gradients are
        summed, as dense rows.
    spread : {None, "first", "new"}
        For a layer that is called once for all examples: its inputs and outputs are expanded to
        the batch, in place of a first dimension of length 1 or by a new one.
    by_call : bool
        Whether ``F.linear`` is called with the weight: ``module`` then only holds weight and bias.
    recurrent : torch.nn.Module or None
        The recurrent layer whose steps call it.
    inner : bool
        Where the batch dimension holds several rows of each example: whether examples change
        faster than these rows.
    """

    name: str
    module: nn.Module
    rule: LayerRule
    trains_weight: bool
    trains_bias: bool
    columns: tuple[slice, ...]
    batch_dim: int = 0
    shared: bool = False
    spread: str | None = None
    by_call: bool = False
    recurrent: nn.Module | None = None
    inner: bool = False

    @property
    def trained(self) -> list[Tensor]:
        """The layer's trainable parameters, weight first."""
        own: Any = self.module  # torch types attributes as Tensor | Module
        return [own.weight] * self.trains_weight + ([own.bias] if self.trains_bias else [])

    @property
    def has_factors(self) -> bool:
        """Whether the gradient is kept as factors."""
        return self._makes_factors and not self.shared

    @property
    def place(self) -> int:
        """First column: the same for layers that share a weight."""
        return self.columns[0].start

    @property
    def _makes_factors(self) -> bool:
        return self.rule.dense is None and self.trains_weight

    @cached_property
    def spec(self) -> BlockSpec:
        """Position and shape of the block."""
        if not self._makes_factors:
            return BlockSpec(self.name, self.columns)
        weight: Any = self.module.weight  # torch types it as Tensor | Module
        d_out = len(weight)
        d_in, image = weight.numel() // d_out, isinstance(self.module, (nn.Conv2d, nn.Conv3d))
        return BlockSpec(self.name, self.columns, d_out, d_in, self.trains_bias, image)

    def block(self, calls: list[tuple[Tensor, Tensor]], n: int, keep_factors: bool) -> Block:
        """Gradients from the (inputs, output gradients (R, ...)) of all calls.

        Small weights applied at many positions are multiplied out at once unless
        ``keep_factors``: the dense gradient then takes less memory than its factors.
        """
        inputs, outputs = [], []
        sides = [
            (self._rows_first(x, 0, n), self._rows_first(g, 1, n).transpose(0, 1)) for x, g in calls
        ]
        if self.rule.products is not None and self._makes_factors and not keep_factors:
            length = sum(g.shape[3:].numel() * len(g) for _, g in sides) // n
            if self._dense_is_smaller(sides[0][1].shape[1], length):
                rows = (_summed(self._products(x, g), n) for x, g in sides)
                return DenseBlock(self.spec, reduce(torch.add, rows))
        for x, g in sides:
            given = self.trains_weight or self.rule.dense is not None
            a = self.rule.inputs(self.module, x) if given else x
            if self._makes_factors:
                inputs.append(_terms(a, n, 1))
                outputs.append(_terms(self._output_sides(g, a), n, 2))
            else:
                outputs.append(_summed(self._rows(a, g), n))
        if not self._makes_factors:
            return DenseBlock(self.spec, reduce(torch.add, outputs))
        a = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=1)
        b = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
        if not a.is_floating_point():
            return IndexBlock(self.spec, a, b)
        block = OuterBlock(self.spec, a, b)
        keep_factors |= not self._dense_is_smaller(*b.shape[1:3])
        return block if keep_factors else DenseBlock.of(block)

    def is_smaller_dense(self, block: Block) -> bool:
        """Whether gradients are made dense where factors need not be kept."""
        if not isinstance(block, OuterBlock):
            return False
        return self._dense_is_smaller(block.rows_per_example, block.length)

    def _dense_is_smaller(self, rows: int, length: int) -> bool:
        """Whether dense rows take less memory than factors of ``length`` terms."""
        d_in, d_out = self.spec.d_in, self.spec.d_out
        return not self.shared and rows * d_in * d_out <= length * (d_in + rows * d_out)

    def _products(self, x: Tensor, g: Tensor) -> Tensor:
        """Rows (n, R, width) of one call, of a rule whose factors need not be made for them."""
        weight = present(self.rule.products, "products of the rule")(self.module, x, g)
        return torch.cat([weight, g.flatten(3).sum(3)], dim=2) if self.trains_bias else weight

    def zeros(self, n: int, like: Tensor) -> DenseBlock:
        """Gradients (n, R, width) of a batch in which the layer was not called."""
        return DenseBlock(self.spec, like.new_zeros(n, like.shape[1], self.spec.width))

    def _rows(self, inputs: Tensor, g: Tensor) -> Tensor:
        """Rows (n, R, width) of one call, of a layer without factors."""
        if self.rule.dense is None:  # only the bias of a layer with factors is trained
            return self._output_sides(g, None).sum(2)
        if self.rule.fill is not None and self.trains_weight:
            return self._filled_rows(inputs, g)
        weight, bias = self.rule.dense(self.module, inputs, g)
        wanted = [weight] * self.trains_weight + [bias] * self.trains_bias
        return wanted[0] if len(wanted) == 1 else torch.cat(wanted, dim=2)

    def _filled_rows(self, inputs: Tensor, g: Tensor) -> Tensor:
        size = self.trained[0].numel()
        out = g.new_empty(*g.shape[:2], self.spec.width)
        present(self.rule.fill, "fill of the rule")(inputs, g, out[:, :, :size])
        if self.trains_bias:
            out[:, :, size:] = g.flatten(2, -2).sum(2) if g.ndim > 3 else g
        return out

    def _output_sides(self, g: Tensor, inputs: Tensor | None) -> Tensor:
        """Output sides (n, R, T, d_out) of one call, for a rule with factors."""
        return present(self.rule.outputs, "outputs of the rule")(self.module, g, inputs)

    def _rows_first(self, x: Tensor, lead: int, n: int) -> Tensor:
        """The batch dimension in dimension ``lead``; it may hold several rows of each example."""
        if self.batch_dim:
            x = x.movedim(lead + self.batch_dim, lead)
        if x.shape[lead] % n:
            raise ValueError(f"{x.shape[lead]} rows of {n} examples")
        if self.inner:
            return x.unflatten(lead, (-1, n)).transpose(lead, lead + 1).flatten(lead, lead + 1)
        return x


def _terms(x: Tensor, n: int, dim: int) -> Tensor:
    """The terms, in dimension ``dim``, of all rows (n k, ...) of each example: (n, ..., k T, d)."""
    if len(x) == n:
        return x
    return x.unflatten(0, (n, -1)).movedim(1, dim).flatten(dim, dim + 1)


def _summed(rows: Tensor, n: int) -> Tensor:
    """Sums (n, ...) over the rows (n k, ...) of each example."""
    return rows if len(rows) == n else rows.unflatten(0, (n, -1)).sum(1)


#: Tasks whose module changes outputs of its layers in place, and gets copies of them.
_CHANGE_IN_PLACE: WeakSet[Task] = WeakSet()

#: What has a block of its own.
AnyLayer = Layer | BareParameter


class Recorder:
    """Recorded inputs and outputs of the layers, call by call, in a pass over n examples.

    With ``copies`` the module continues with a *copy* of each output, so that an in-place
    activation cannot change the recorded one. ``replaced`` are tensors to run the module with.
    """

    def __init__(self, layers: Sequence[AnyLayer], n: int, copies: bool):
        self._copies, self._versions = copies, list[int]()
        self.calls: list[tuple[int, Tensor, Tensor]] = []
        self.replaced: dict[str, Tensor] = {}
        self._layers, self._n = layers, n
        self._by_weight = {
            id(la.module.weight): position
            for position, la in enumerate(layers)
            if isinstance(la, Layer) and la.by_call
        }
        self._recording = True

    def _replace(self, position: int, bare: BareParameter) -> None:
        if bare.used:
            own = self.replaced[bare.name] = bare.spread(self._n)
            self.calls.append((position, own.detach(), own))
            self._versions.append(own._version)  # noqa: SLF001  torch has no other name

    def changed_in_place(self) -> bool:
        """Whether the module changed a recorded output."""
        now = [output._version for _, _, output in self.calls]  # noqa: SLF001  torch has no other name
        return now != self._versions

    def _hook(self, position: int, layer: Layer) -> Callable:
        def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
            if not (self._recording and isinstance(output, Tensor) and output.requires_grad):
                return None
            inputs = args[0] if args else next(iter(kwargs.values()))
            if isinstance(module, nn.Bilinear):
                inputs = torch.cat([*args, *kwargs.values()], -1)
            if layer.spread is not None:
                inputs, output = (_spread(t, layer.spread, self._n) for t in (inputs, output))
            self.calls.append((position, inputs.detach(), output))
            self._versions.append(output._version)  # noqa: SLF001  torch has no other name
            return output.clone() if self._copies or layer.spread is not None else None

        return record

    def _called(self, inputs: Tensor, weight: Tensor, _bias: Any, output: Tensor) -> Tensor:
        position = self._by_weight.get(id(weight))
        if position is None or not output.requires_grad:
            return output
        self.calls.append((position, inputs.detach(), output))
        self._versions.append(output._version)  # noqa: SLF001  torch has no other name
        return output.clone() if self._copies else output

    @contextmanager
    def _calls(self) -> Iterator[None]:
        """Record calls of ``F.linear`` with the weights that are used so."""
        if not self._by_weight:
            yield
            return
        owners = (la.recurrent for la in self._layers if isinstance(la, Layer))
        with unroll({owner for owner in owners if owner is not None}), linear_calls(self._called):
            yield

    @contextmanager
    def watch(self) -> Iterator[Recorder]:
        """Record the layers during one forward pass; hooks are always removed."""
        handles = []
        try:
            for position, layer in enumerate(self._layers):
                if isinstance(layer, BareParameter):
                    self._replace(position, layer)
                elif not layer.by_call:
                    hook = self._hook(position, layer)
                    options: dict = {"prepend": True, "with_kwargs": True}
                    handles.append(layer.module.register_forward_hook(hook, **options))
            with self._calls():
                yield self
        finally:
            self._recording = False
            for handle in handles:
                handle.remove()


def _spread(x: Tensor, how: str, n: int) -> Tensor:
    """A tensor for all examples with one copy for each of n."""
    if how == "new":
        return x.expand(n, *x.shape)
    return x if len(x) == n else x.expand(n, *x.shape[1:])


def forward_recorded(
    task: Task, layers: Sequence[AnyLayer], inputs: Any, *, as_given: bool = False
) -> tuple[Tensor, list]:
    """Natural outputs of a batch, and the calls of the recorded layers.

    ``as_given`` keeps images in the format in which they lie in memory.
    """
    inputs = inputs if as_given else as_taken(task, inputs)
    n = count_rows(inputs)
    n = 2 if n == 1 and task.needs_two else n
    copies = task in _CHANGE_IN_PLACE
    with torch.enable_grad(), plain_kernels(), Recorder(layers, n, copies).watch() as recorder:
        outputs = task.forward(inputs, recorder.replaced or None)
    if copies or not recorder.changed_in_place():
        return outputs, recorder.calls
    _CHANGE_IN_PLACE.add(task)
    return forward_recorded(task, layers, inputs, as_given=as_given)


def pull_back(
    outputs: Tensor, captured: Sequence[Tensor], cotangents: Tensor, keep_graph: bool = False
) -> list[Tensor]:
    """Gradients (R, *shape) with respect to captured tensors, for every row of cotangents.

    Parameters
    ----------
    outputs : Tensor of shape (n, *output_shape)
    captured : sequence of Tensor
    cotangents : Tensor of shape (n, R, *output_shape)
    keep_graph : bool, default=False
        Whether another backward pass follows.
    """
    n_rows = cotangents.shape[1]
    if not captured:
        return []
    if not outputs.requires_grad:
        return [t.new_zeros(n_rows, *t.shape) for t in captured]
    rows = [
        torch.autograd.grad(
            outputs,
            captured,
            cotangents[:, r],
            retain_graph=keep_graph or r + 1 < n_rows,
            allow_unused=True,
        )
        for r in range(n_rows)
    ]
    stacked: list[Tensor] = []
    for gradients, t in zip(zip(*rows, strict=True), captured, strict=True):
        found = [gradient for gradient in gradients if gradient is not None]
        if not found:  # the outputs do not depend on the layer
            stacked.append(t.new_zeros(n_rows, *t.shape))
        else:
            stacked.append(found[0][None] if len(found) == 1 else torch.stack(found))
    return stacked


def layer_blocks(
    layers: Sequence[AnyLayer],
    outputs: Tensor,
    calls: Sequence[tuple[int, Tensor, Tensor]],
    cotangents: Tensor,
    keep_factors: bool,
    dtype: torch.dtype,
    keep_graph: bool = False,
) -> dict[str, Block]:
    """A block for every layer from its recorded calls, in one dtype, except where a rule fails."""
    gradients = pull_back(outputs, [call[2] for call in calls], cotangents, keep_graph)
    by_layer: dict[int, list] = {}
    for (position, x, _), g in zip(calls, gradients, strict=True):
        x = x.to(dtype) if x.is_floating_point() else x  # autocast: factors of several dtypes
        by_layer.setdefault(position, []).append((x, g.to(dtype)))
    n, blocks = len(outputs), {}
    layer: AnyLayer
    for position, layer in enumerate(layers):
        try:
            if position in by_layer:
                blocks[layer.name] = layer.block(by_layer[position], n, keep_factors)
            else:
                blocks[layer.name] = layer.zeros(n, cotangents.to(dtype))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            LOG.debug("%s: its rule fails, so it is differentiated: %s", layer.name, error)
    return blocks
