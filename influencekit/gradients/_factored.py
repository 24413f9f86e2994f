"""Gradients of one batch: one forward pass, one backward pass a row, factors from the layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._per_example import dense_rows
from influencekit.gradients.blocks._base import WORKSPACE, Block
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.layers._layout import REST, Layer, Layout
from influencekit.models import Task
from influencekit.utils import plain_kernels

__all__ = ["Recorder", "batch_features", "pull_back"]


class Recorder:
    """Inputs and outputs of the watched layers, call by call.

    The module goes on with a *copy* of each output, so that an activation that works in
    place cannot spoil the recorded one.
    """

    def __init__(self, layers: Sequence[Layer]):
        self.calls: list[tuple[int, Tensor, Tensor]] = []
        self._layers = layers
        self._recording = True

    def _hook(self, position: int):
        def record(module, args, kwargs, output):
            if not (self._recording and isinstance(output, Tensor) and output.requires_grad):
                return None
            inputs = args[0] if args else next(iter(kwargs.values()))
            self.calls.append((position, inputs.detach(), output))
            return output.clone()

        return record

    @contextmanager
    def watch(self) -> Iterator[Recorder]:
        """Watch the layers for the time of one forward pass; hooks never stay behind."""
        handles = []
        try:
            for position, layer in enumerate(self._layers):
                handles.append(
                    layer.module.register_forward_hook(
                        self._hook(position), prepend=True, with_kwargs=True
                    )
                )
            yield self
        finally:
            self._recording = False
            for handle in handles:
                handle.remove()


def forward_recorded(task: Task, layers: Sequence[Layer], inputs: Any) -> tuple[Tensor, list]:
    """Natural outputs of a batch and the calls of the watched layers."""
    with torch.enable_grad(), plain_kernels(), Recorder(layers).watch() as recorder:
        outputs = task.forward(inputs)
    return outputs, recorder.calls


def pull_back(outputs: Tensor, captured: Sequence[Tensor], cotangents: Tensor) -> list[Tensor]:
    """Gradients (R, *shape) with respect to captured tensors, for every row of cotangents.

    Parameters
    ----------
    outputs : Tensor of shape (n, *output_shape)
    captured : sequence of Tensor
    cotangents : Tensor of shape (n, R, *output_shape)
    """
    n_rows = cotangents.shape[1]
    if not captured:
        return []
    if not outputs.requires_grad:
        return [t.new_zeros(n_rows, *t.shape) for t in captured]
    rows = [
        torch.autograd.grad(
            outputs, captured, cotangents[:, r], retain_graph=r + 1 < n_rows, allow_unused=True
        )
        for r in range(n_rows)
    ]
    return [_stack(grads, t) for grads, t in zip(zip(*rows, strict=True), captured, strict=True)]


def _stack(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    if gradients[0] is None:
        return like.new_zeros(len(gradients), *like.shape)
    return gradients[0][None] if len(gradients) == 1 else torch.stack(gradients)


def batch_features(
    task: Task,
    layout: Layout,
    inputs: Any,
    targets: Tensor | None,
    cotangent,
    *,
    keep_factors: bool = False,
    workspace: int = WORKSPACE,
) -> GradientFeatures:
    """Gradients of one batch as :class:`GradientFeatures`."""
    outputs, calls = forward_recorded(task, layout.layers, inputs)
    cotangents = check_cotangents(cotangent(outputs.detach(), targets), outputs)
    blocks = layer_blocks(layout.layers, outputs, calls, cotangents, keep_factors)
    n, rows = cotangents.shape[:2]
    dense = _dense_layers(layout, blocks)
    if layout.rest:
        del outputs, calls
        dense.append(
            dense_rows(
                task, layout.rest, inputs, cotangents, vmaps=layout.rest_vmaps, workspace=workspace
            )
        )
    if dense:
        joined = dense[0] if len(dense) == 1 else torch.cat(dense, dim=2)
        blocks[REST] = DenseBlock(layout.rest_spec, joined)
    return GradientFeatures(blocks, n, rows, layout.n_parameters, workspace)


def _dense_layers(layout: Layout, blocks: dict[str, Block]) -> list[Tensor]:
    """Rows of the layers without factors, taken out of the blocks; shared weights summed."""
    rows: dict[int, Tensor] = {}
    for layer in layout.layers:
        if not layer.has_factors:
            own = blocks.pop(layer.name).rows
            rows[layer.place] = rows[layer.place] + own if layer.place in rows else own
    return list(rows.values())


def layer_blocks(
    layers: Sequence[Layer],
    outputs: Tensor,
    calls: Sequence[tuple[int, Tensor, Tensor]],
    cotangents: Tensor,
    keep_factors: bool,
) -> dict[str, Block]:
    """A block for every layer from its recorded calls."""
    gradients = pull_back(outputs, [call[2] for call in calls], cotangents)
    by_layer: dict[int, list] = {}
    for (position, x, _), g in zip(calls, gradients, strict=True):
        by_layer.setdefault(position, []).append((x, g))
    n = len(outputs)
    return {
        layer.name: layer.block(by_layer[position], n, keep_factors)
        if position in by_layer
        else layer.zeros(n, cotangents)
        for position, layer in enumerate(layers)
    }


def check_cotangents(cotangents: Tensor, outputs: Tensor) -> Tensor:
    """The cotangents (n, R, *output_shape), or an error that says what is wrong with them."""
    n, shape = len(outputs), tuple(outputs.shape[1:])
    if cotangents.ndim != outputs.ndim + 1 or len(cotangents) != n or cotangents.shape[2:] != shape:
        raise ValueError(
            f"cotangent: it returned shape {tuple(cotangents.shape)} for outputs of shape "
            f"{tuple(outputs.shape)}; expected (n, R, *output_shape) = ({n}, R, "
            f"{', '.join(map(str, shape))})."
        )
    return cotangents.detach().to(outputs.dtype)
