"""Layers' gradients compared with an ordinary backward pass, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._features import cat_blocks
from influencekit.gradients._per_example import dense_rows
from influencekit.gradients.blocks._base import Block
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.layers._groups import Group, Trust
from influencekit.gradients.layers._image_format import as_taken
from influencekit.gradients.layers._layers import LOG, forward_recorded, layer_blocks
from influencekit.gradients.layers._layout import Layout
from influencekit.gradients.layers._mixing import check_unmixed
from influencekit.models._task import Task
from influencekit.utils._torch import (
    flat_gradient,
    no_hidden_loops,
    plain_kernels,
    rounding_floor,
    select_rows,
    tolerance,
)

__all__ = ["Batch", "trusted_blocks"]


class Batch:
    """A batch with its cotangents, whose gradients can be computed in more than one way.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensor
    outputs : Tensor of shape (n, *output_shape)
    cotangents : Tensor of shape (n, R, *output_shape)
    rounding : torch.dtype
        That of the largest rounding in the model.
    """

    def __init__(
        self, task: Task, inputs: Any, outputs: Tensor, cotangents: Tensor, rounding: torch.dtype
    ):
        self.dtype, self.rounding = task.dtype, rounding
        self.task, self.inputs = task, inputs
        self.outputs, self.cotangents = outputs, cotangents

    def one_by_one(self, group: Group) -> dict[str, Block]:
        """The blocks of some layers, from a forward pass of each example by itself."""
        n, parts = len(self.cotangents), []
        copies = 2 if self.task.needs_two else 1
        for i in range(n):
            rows = torch.tensor([i] * copies, device=self.cotangents.device)
            inputs = select_rows(self.inputs, rows, n)
            outputs, calls = forward_recorded(self.task, group.layers, inputs)
            own = self.cotangents[rows]
            blocks = layer_blocks(group.layers, outputs, calls, own, True, self.dtype)
            parts.append({name: block[:1] for name, block in blocks.items()})
        names = [layer.name for layer in group.layers if all(layer.name in p for p in parts)]
        return {name: cat_blocks([part[name] for part in parts]) for name in names}

    def differentiated(self, group: Group, vmaps: bool, workspace: int) -> dict[str, Block]:
        """The same as dense rows: all in the first layer's block."""
        inputs, cotangents = self.inputs, self.cotangents
        options: dict = {"vmaps": vmaps, "workspace": workspace}
        with no_hidden_loops():
            rows = dense_rows(self.task, group.names, inputs, cotangents, **options).to(self.dtype)
        first, *others = group.layers
        zeros = {layer.name: layer.zeros(len(rows), rows) for layer in others}
        return {first.name: DenseBlock(first.spec, rows), **zeros}

    def check(self, groups: Sequence[Group], rows: Tensor, *, recorded: bool = False) -> Check:
        """Sums of the gradients at some positions, by an ordinary backward pass.

        ``recorded``: the positions are all, and the outputs still have their graph.
        """
        rows, n = rows.to(self.cotangents.device), len(self.cotangents)
        chosen, outputs = self.cotangents[rows], self.outputs
        # all rows again would not show whether examples mix; two do
        few = rows[:2] if len(rows) == n > 2 else rows
        if not recorded:
            outputs = self._outputs(rows)
        if not recorded or few is not rows:
            again = outputs if few is rows else self._outputs(few, graph=False)
            check_unmixed(self.task, again.detach(), self.outputs.detach()[few], self.rounding)
        count = torch.arange(chosen.shape[0] * chosen.shape[1], dtype=torch.float32)
        weights = (1.5 + torch.cos(count)).to(chosen).view(chosen.shape[:2])
        names = [name for group in groups for name in group.names]
        wanted = [self.task.parameters[name] for name in names]
        # Σ_r w_ir c_ir
        pulled = (weights.view(*weights.shape, *[1] * (chosen.ndim - 2)) * chosen).sum(1)
        found: Any = [None] * len(names)
        if outputs.requires_grad:
            found = torch.autograd.grad(outputs, wanted, pulled, allow_unused=True)
        flat = (flat_gradient(g, p).to(self.dtype) for g, p in zip(found, wanted, strict=True))
        sums = dict(zip(names, flat, strict=True))
        return Check(rows, weights[None].to(self.dtype), sums, self.rounding)

    def _outputs(self, rows: Tensor, graph: bool = True) -> Tensor:
        with torch.set_grad_enabled(graph), plain_kernels():
            inputs = select_rows(self.inputs, rows, len(self.cotangents))
            return self.task.forward(as_taken(self.task, inputs))


@dataclass(frozen=True)
class Check:
    """Weighted sums of the gradients of some examples, ``weights`` (1, n, R), by parameter."""

    rows: Tensor
    weights: Tensor
    sums: dict[str, Tensor]
    rounding: torch.dtype

    def wrong(self, groups: Sequence[Group], blocks: dict[str, Block]) -> list[Group]:
        """Groups whose blocks have other sums."""
        known = [group for group in groups if all(la.name in blocks for la in group.layers)]
        own = [[self._chosen(blocks[layer.name]) for layer in group.layers] for group in known]
        limit = tolerance(self.rounding)
        off = self._differences(known, own)
        odd = [i for i, (difference, size) in enumerate(off) if difference > limit * size]
        if not odd:
            return []
        sizes = [self._size(blocks) for blocks in own]
        floor = rounding_floor(self.rounding) * max(sizes)
        return [known[i] for i in odd if off[i][0] > limit * sizes[i] + floor]

    def _differences(
        self, groups: Sequence[Group], blocks: Sequence[Sequence[Block]]
    ) -> list[list[float]]:
        """How far the sums of each group are from those expected, and the norm of those."""
        norms = []
        for group, some in zip(groups, blocks, strict=True):
            # Σ_ir w_ir g_ir
            found = reduce(torch.add, (block.weighted_sums(self.weights)[0] for block in some))
            own = [self.sums[name] for name in group.names]
            expected = own[0] if len(own) == 1 else torch.cat(own)
            norms += [torch.linalg.vector_norm(t) for t in (found.sub_(expected), expected)]
        return torch.stack(norms).view(-1, 2).tolist() if norms else []

    def _chosen(self, block: Block) -> Block:
        """The examples that were checked."""
        return block if len(self.rows) == block.n_examples else block[self.rows]

    def _size(self, blocks: Sequence[Block]) -> float:
        """Sum of the norms of the weighted gradients, which may cancel in their sum."""
        norms = reduce(torch.add, (block.squared_norms().sqrt() for block in blocks))
        return float(self.weights.flatten() @ norms)


def trusted_blocks(
    batch: Batch,
    layout: Layout,
    blocks: dict[str, Block],
    workspace: int,
    rows: Tensor | None,
) -> dict[str, Block]:
    """The blocks of a batch's layers; those whose rule is wrong are made in another way.

    Parameters
    ----------
    batch : Batch
    layout : Layout
        A layer whose rule was wrong once is not believed again.
    blocks : dict of str to Block
        By rule; without the layers whose rule failed.
    workspace : int
    rows : Tensor or None
        Positions that are checked. If they are all, the outputs still have their graph.

    Returns
    -------
    dict of str to Block

    Raises
    ------
    UnsupportedModelError
        If a layer's rule is wrong here, and gradients by it that no check has seen are in use.
    """
    groups, trust = layout.groups, layout.trust
    failed = [group for group in groups if any(la.name not in blocks for la in group.layers)]
    trust.lose(failed, "its rule fails")
    if rows is not None and groups:
        check = batch.check(groups, rows, recorded=len(rows) == len(batch.cotangents))
        _lose_wrong(batch.task, trust, check.wrong(groups, blocks))
    for group in groups:
        if group.place in trust.lost:
            blocks.update(_by_other_means(batch, group, trust, workspace))
    return blocks


def _lose_wrong(task: Task, trust: Trust, wrong: Sequence[Group]) -> None:
    """Believe these layers no more; refuse to go on if wrong gradients may be in use already."""
    new = [group for group in wrong if group.place not in trust.lost]
    trust.lose(new, "gradients differ from a backward pass")
    if new and trust.partly:
        trust.partly = False
        raise UnsupportedModelError(
            f"model: gradients of {new[0].layers[0].name!r} in {task.name} are right in some "
            "batches and wrong in others, so earlier ones may be wrong. Cause: a forward that puts "
            "rows in another order, or chooses some, by their content. Run one example at a time: "
            "give the attributor batch_size=1 and fit it again."
        )


def _by_other_means(batch: Batch, group: Group, trust: Trust, workspace: int) -> dict[str, Block]:
    """Blocks of a group that keep their factors if they can, and agree with a backward pass."""
    check = batch.check([group], torch.arange(len(batch.cotangents)))
    route = trust.lost[group.place]
    ways = [
        lambda: batch.one_by_one(group),
        lambda: batch.differentiated(group, True, workspace),
    ]
    for number, way in enumerate(ways[route:], route):
        try:
            found = way()
        except Exception as error:  # whatever a model raises under hooks or a transform
            LOG.debug("%s: %s", group.layers[0].name, error)
        else:
            if len(found) == len(group.layers) and not check.wrong([group], found):
                return found
        trust.lost[group.place] = number + 1
    return batch.differentiated(group, False, workspace)
