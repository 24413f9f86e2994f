"""The engine: computes gradients of a task's examples in batches, in bounded memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.data._sources import Batch
from influencekit.exceptions import ResourceError
from influencekit.gradients._cotangents import CotangentFunction, at_rows, has_one_row
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._per_example import dense_rows
from influencekit.gradients._sparse_rows import SparseRows, sparse_rows
from influencekit.gradients._store import remove_spilled
from influencekit.gradients.blocks._base import WORKSPACE, Block, BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._joined import JoinedBlock
from influencekit.gradients.layers._layers import forward_recorded, layer_blocks
from influencekit.gradients.layers._layout import REST, Layout, discover, forget_changed
from influencekit.gradients.layers._trust import Batch as CheckedBatch
from influencekit.gradients.layers._trust import trusted_blocks
from influencekit.models._task import Task
from influencekit.utils._long_work import (
    format_bytes,
    held_memory,
    memory_limit,
    parse_memory,
    progress,
)
from influencekit.utils._torch import count_rows, plain_kernels, twice

__all__ = ["GradientEngine"]

#: Bytes of a batch, where ``max_memory`` has more room, and of its largest tensor.
_BATCH_BYTES, _TENSOR_BYTES = 2**27, 2**25
#: Bytes that any machine has.
_TRIFLE = 2**20


class GradientEngine:
    """Per-example gradients of a task, kept as factors if layers allow it.

    Results do not depend on the batch size, up to rounding. No hooks remain on the model's module
    after a call.

    Parameters
    ----------
    task : Task
    batch_size : int, optional
        Number of examples in one forward pass; None chooses it from the memory that they need.
    max_memory : int or str, optional
        Total memory limit in bytes, or a string such as "2GB"; None holds at most 1 GiB, and
        refuses what needs more than half of the free memory of the task's device.
    verbose : int, default=0
        1 shows progress over batches.

    Attributes
    ----------
    max_memory : int
        Bytes that choose the method: those given, or 8 GiB.
    held_memory : int
        Bytes of all that may be held to save time: ``max_memory``, or 1 GiB where none is given.
    """

    def __init__(
        self,
        task: Task,
        *,
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
            raise ValueError(f"batch_size: got {batch_size!r}; expected a positive int or None.")
        self.task = task
        self.batch_size = batch_size
        self.max_memory, self.held_memory = parse_memory(max_memory), held_memory(max_memory)
        self.verbose = verbose
        self.workspace = max(2**16, min(WORKSPACE, self.max_memory // 16))
        remove_spilled()

    @property
    def is_bounded(self) -> bool:
        """Whether the user gave ``max_memory``."""
        return self.held_memory == self.max_memory

    @property
    def limit(self) -> int:
        """Bytes above which work is refused, which is all that free memory decides."""
        return memory_limit(self.max_memory if self.is_bounded else None, self.task.device)

    @property
    def kept_memory(self) -> int:
        """Bytes of one thing that is kept between passes."""
        return self.max_memory // 8 if self.is_bounded else self.held_memory // 2

    def batches(
        self,
        examples: Examples,
        cotangent: CotangentFunction,
        size: int,
        keep_factors: bool = False,
        made: GradientFeatures | None = None,
    ) -> Iterator[GradientFeatures]:
        """Gradients of the examples in order, in batches; see :class:`Gradients`.

        Parameters
        ----------
        examples : Examples
        cotangent : callable
            ``(outputs, targets) -> (n, R, *output_shape)``.
        size : int
            Number of examples in a batch.
        keep_factors : bool, default=False
            Keep the input and output factors of every layer that has them, even if the dense
            gradient is smaller (small kernels on large images).
        made : GradientFeatures or None, default=None
            The first batch, where it is there already.

        Yields
        ------
        GradientFeatures
        """
        sparse = None if keep_factors else self._sparse(examples)
        total, skip = -(-len(examples) // size), {}
        if made is not None:
            yield made
            made, total, skip = None, total - 1, {"skip": 1}
        batches = (examples.batches if sparse is None else examples.unread)(size, **skip)
        for batch in progress(batches, "gradients", self.verbose, total=total, leave=False):
            if sparse is None:
                yield self.features(examples, batch, cotangent, keep_factors)
            else:
                yield self._sparse_features(sparse, batch, cotangent)

    def _sparse(self, examples: Examples) -> SparseRows | None:
        return None if examples.sparse_matrix is None else sparse_rows(self.task, examples)

    def quiet(self) -> GradientEngine:
        """The same engine without a progress bar."""
        other = copy.copy(self)
        other.verbose = 0
        return other

    def layout(self, examples: Examples) -> Layout:
        """Which parameters have factors and which do not, determined on the first examples."""
        return discover(self.task, lambda: next(examples.batches(2)).inputs)

    def layout_of(self, first: Any) -> Layout:
        """The same, determined on the inputs of these examples."""
        return discover(self.task, lambda: first)

    def first(
        self, examples: Examples, cotangent: CotangentFunction, keep_factors: bool = False
    ) -> tuple[GradientFeatures, int]:
        """Gradients of the first example, and how many examples make a batch.

        A lone example is checked, as a batch is.
        """
        sparse = None if keep_factors else self._sparse(examples)
        if sparse is not None:
            found = self._sparse_features(sparse, next(examples.unread(1)), cotangent)
            room = min(2**26, self.max_memory // 8)
            size = min(2**16, max(1, room // (sparse.bytes_each + 4 * found.nbytes)))
            return found, self.batch_size or size
        forget_changed(self.task)
        batch = next(examples.batches(1))
        found = self.features(examples, batch, cotangent, keep_factors, len(examples) == 1)
        largest = max(t.nbytes for block in found.blocks.values() for t in block.tensors)
        return found, self.size_of_batch(examples, found.nbytes, largest)

    def first_batch(
        self, examples: Examples, cotangent: CotangentFunction, keep_factors: bool = False
    ) -> tuple[GradientFeatures, int, Callable[[], bool]] | None:
        """Gradients of the first batch, how many examples make one, and if the module stays.

        The size of a batch comes from the layout, so nothing is computed twice. None where that
        does not tell it: where a cotangent may have several rows, and for sparse inputs.
        """
        if not has_one_row(cotangent) or self._sparse(examples) is not None:
            return None
        forget_changed(self.task)
        layout = self.layout(examples)
        sizes = layout.sizes[keep_factors]
        size = self.size_of_batch(examples, sizes.total, sizes.largest)
        batch = next(examples.batches(size))
        stays = layout.state.stays if layout.state is not None else lambda: True
        return self.features(examples, batch, cotangent, keep_factors), size, stays

    def size_of_batch(self, examples: Examples, nbytes: int, largest: int = 1) -> int:
        """Number of examples in a batch, as given or from the bytes of one example's gradients.

        ``largest`` are the bytes of one example in the largest tensor: tensors of more than 32 MB
        get new memory from the system each time, which costs more than what a batch saves.
        """
        if self.batch_size is not None:
            return self.batch_size
        each = nbytes + self.layout(examples).activation_bytes * 2
        room = min(_BATCH_BYTES, self.max_memory // 8) // max(1, each)
        return int(min(4096, max(1, min(room, _TENSOR_BYTES // max(1, largest)))))

    def features(
        self,
        examples: Examples,
        batch: Batch,
        cotangent: CotangentFunction,
        keep_factors: bool = False,
        check: bool = True,
    ) -> GradientFeatures:
        """Gradients of one batch: one forward pass, and one backward pass for each row.

        Parameters
        ----------
        examples : Examples
            Examples that contain the batch.
        batch : Batch
        cotangent : callable
        keep_factors : bool, default=False
        check : bool, default=True
            Compare the layers' gradients with an ordinary backward pass: of all examples in small
            work, else of three of each batch as long as that is a twentieth of it, and always of
            the first and the last batch.

        Returns
        -------
        GradientFeatures
        """
        if self.task.needs_two and count_rows(batch.inputs) == 1:
            return self.features(examples, _doubled(batch), cotangent, keep_factors, check)[:1]
        layout = self.layout(examples)
        outputs, calls = forward_recorded(self.task, layout.layers, batch.inputs)
        cotangents = at_rows(cotangent, batch.rows)(outputs.detach(), batch.targets)
        cotangents = _check_cotangents(cotangents, outputs)
        n, rows_per_example = cotangents.shape[:2]
        rows = None
        if check and not self.task.convex:  # whose module is the package's own
            rows = layout.trust.positions(n, batch.rows.stop == len(examples))
        options: dict = {"keep_factors": keep_factors, "dtype": self.task.dtype}
        options["keep_graph"] = rows is not None and len(rows) == n
        blocks = layer_blocks(layout.layers, outputs, calls, cotangents, **options)
        if not self.task.convex:
            rounding = layout.trust.dtype
            whole = CheckedBatch(self.task, batch.inputs, outputs, cotangents, rounding)
            blocks = trusted_blocks(whole, layout, blocks, self.workspace, rows)
            if check:
                layout.trust.note(rows, n)
        rest = None
        if layout.rest:
            del outputs, calls
            options = {"vmaps": layout.rest_vmaps, "workspace": self.workspace}
            rest = dense_rows(self.task, layout.rest, batch.inputs, cotangents, **options)
            rest = rest.to(self.task.dtype)
        if layout.rest_spec.width:
            blocks[REST] = _joined(layout, blocks, rest)
        return GradientFeatures(blocks, n, rows_per_example, layout.n_parameters, self.workspace)

    def _sparse_features(
        self, sparse: SparseRows, batch: Batch, cotangent: CotangentFunction
    ) -> GradientFeatures:
        """Gradients of one batch of a linear model, whose inputs stay sparse."""
        index, outputs = sparse.read(batch)
        cotangents = at_rows(cotangent, batch.rows)(outputs, batch.targets)
        cotangents = _check_cotangents(cotangents, outputs)
        n, rows_per_example = cotangents.shape[:2]
        blocks, p = sparse.blocks(index, cotangents), self.task.n_parameters
        return GradientFeatures(blocks, n, rows_per_example, p, self.workspace)

    def require(self, needed: int, what: str, instead: str) -> None:
        """Raise ResourceError unless the needed bytes fit into ``max_memory``."""
        if needed <= _TRIFLE and not self.is_bounded:
            return  # what is free takes longer to read
        if needed > self.limit:
            raise ResourceError(
                f"max_memory: {what} need {format_bytes(needed)}, but {self.limit_in_words}. "
                f"{instead}, or {self.more}."
            )

    @property
    def limit_in_words(self) -> str:
        """What refuses, for messages."""
        name = "max_memory" if self.is_bounded else "half of the free memory"
        return f"{name} is {format_bytes(self.limit)}"

    @property
    def more(self) -> str:
        """What allows more, for messages."""
        return f"{'raise' if self.is_bounded else 'set'} max_memory"

    def outputs(self, examples: Examples) -> Tensor:
        """Natural outputs of all examples, ``(n, *output_shape)``, without a graph."""
        return torch.cat([found for _, found in self.passes(examples, self.batch_size or 1024)])

    def passes(self, examples: Examples, size: int) -> Iterator[tuple[Batch, Tensor]]:
        """Batches of examples, with their natural outputs, without a graph.

        The inputs of a batch whose examples stay sparse are positions in their source.
        """
        sparse = self._sparse(examples)
        if sparse is not None:
            yield from ((batch, sparse.read(batch)[1]) for batch in examples.unread(size))
            return
        for batch in examples.batches(size):
            with torch.no_grad(), plain_kernels():
                outputs = self.task.forward(batch.inputs)
            yield batch, outputs


def _doubled(batch: Batch) -> Batch:
    """A batch of one example with this example twice."""
    targets = None if batch.targets is None else twice(batch.targets)
    return batch._replace(inputs=twice(batch.inputs), targets=targets)


def _joined(layout: Layout, blocks: dict[str, Block], rest: Tensor | None) -> Block:
    """One block of all that has no factors of its own, removed from the blocks."""
    by_place: dict[int, list[Block]] = {}
    for layer in layout.layers:
        if not layer.has_factors:
            by_place.setdefault(layer.place, []).append(blocks.pop(layer.name))
    parts: list[Block] = []
    starts: list[int] = []
    for group in by_place.values():
        first = starts[-1] + parts[-1].spec.width if parts else 0
        some = _smallest(group)
        parts, starts = parts + some, starts + [first] * len(some)
    if rest is not None:
        starts.append(starts[-1] + parts[-1].spec.width if parts else 0)
        parts.append(DenseBlock(BlockSpec(REST, layout.rest_columns), rest))
    if len(parts) == 1 and isinstance(parts[0], DenseBlock):
        return DenseBlock(layout.rest_spec, parts[0].rows)
    return JoinedBlock(layout.rest_spec, parts, starts)


def _smallest(group: list[Block]) -> list[Block]:
    """Blocks of a shared weight, as they are or as dense rows of their sum, whatever is smaller."""
    if sum(block.nbytes for block in group) < group[0].dense_bytes * group[0].n_examples:
        return group
    joined = JoinedBlock(group[0].spec, group, [0] * len(group))
    return list(joined.with_dense_parts().parts)


def _check_cotangents(cotangents: Tensor, outputs: Tensor) -> Tensor:
    """The cotangents (n, R, *output_shape), or an error that says what is wrong with them."""
    n, shape = len(outputs), tuple(outputs.shape[1:])
    if cotangents.ndim != outputs.ndim + 1 or len(cotangents) != n or cotangents.shape[2:] != shape:
        raise ValueError(
            f"cotangent: it returned shape {tuple(cotangents.shape)} for outputs of shape "
            f"{tuple(outputs.shape)}; expected (n, R, *output_shape) = ({n}, R, "
            f"{', '.join(map(str, shape))})."
        )
    return cotangents.detach().to(outputs.dtype)
