"""Layers by weight, and how far their rules are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from influencekit.gradients.blocks._base import Block
from influencekit.gradients.layers._layers import LOG, AnyLayer, Layer

__all__ = ["Group", "Sizes", "Trust", "sizes_of"]

#: Numbers that checks may pass through a model before they are limited to a share of all work.
_FREE_WORK = 2**21
_SHARE = 1 / 20
_FEW = 3  # examples of a batch that is too large to be checked as a whole
_CALL = 2**16  # what the call of a module costs, in the same unit


@dataclass(frozen=True)
class Sizes:
    """Bytes of one gradient of one example: of all tensors, and of the largest."""

    total: int
    largest: int

    @classmethod
    def of(cls, n: int, dtype: torch.dtype) -> Sizes:
        """Sizes of one tensor of ``n`` numbers."""
        return cls(n * dtype.itemsize, n * dtype.itemsize)

    def beside(self, other: Sizes) -> Sizes:
        """Of both."""
        return Sizes(self.total + other.total, max(self.largest, other.largest))


@dataclass(frozen=True)
class Group:
    """Layers with the same weight, and the names of the parameters that they train.

    ``sizes`` are those of their blocks, as they are made and where factors are kept.
    """

    layers: tuple[AnyLayer, ...]
    names: tuple[str, ...]
    sizes: tuple[Sizes, Sizes] = (Sizes(0, 0), Sizes(0, 0))

    @property
    def place(self) -> int:
        """First column of the weight."""
        return self.layers[0].place


def sizes_of(layers: Sequence[AnyLayer], blocks: Sequence[Block]) -> tuple[Sizes, Sizes]:
    """Sizes of the gradients of layers with the same weight, as made and with all factors.

    Parameters
    ----------
    layers : sequence of Layer or BareParameter
    blocks : sequence of Block
        Of some examples, one gradient each, with all factors.
    """
    first, n = layers[0], blocks[0].n_examples
    tensors = [t.nbytes // n for block in blocks for t in block.tensors]
    kept, dense = Sizes(sum(tensors), max(tensors)), Sizes.of(blocks[0].spec.width, blocks[0].dtype)
    if not first.has_factors:  # one block of all, dense where that is smaller
        kept = kept if kept.total < dense.total else dense
        return kept, kept
    is_dense = isinstance(first, Layer) and first.is_smaller_dense(blocks[0])
    return dense if is_dense else kept, kept


@dataclass
class Trust:
    """Which layers' rules are believed, and how much work checks may still take.

    Parameters
    ----------
    work : int
        Numbers that one example passes through the model.
    dtype : torch.dtype
        That of the largest rounding in the model.
    lost : dict of int to int
        Groups, by place, whose rule was wrong, with the number of other ways that failed too.
    credit : float
        Work that may still go to checks.
    started : bool
        Whether a batch was looked at.
    partly : bool
        Whether gradients by rule are in use that no check has seen.
    """

    work: int
    dtype: torch.dtype
    lost: dict[int, int] = field(default_factory=dict)
    credit: float = _FREE_WORK
    started: bool = False
    partly: bool = False

    def lose(self, groups: Sequence[Group], reason: str) -> None:
        """Believe the rules of these layers no more."""
        for group in groups:
            if group.place not in self.lost:
                LOG.debug("%s: %s, so it is differentiated", group.layers[0].name, reason)
                self.lost[group.place] = 0

    def note(self, rows: Tensor | None, n: int) -> None:
        """Note that gradients of n examples are in use, of which those at ``rows`` were checked."""
        self.partly |= rows is None or len(rows) < n

    def positions(self, n: int, last: bool) -> Tensor | None:
        """Examples of a batch of n that are checked: all or a few, as the work allows; or None.

        The first and the last batch are always checked; before the last, the work for that stays
        in reserve.
        """
        affordable = (self.credit - _CALL) // self.work
        size = n if affordable >= n else min(n, _FEW)
        reserve = 0 if last else _FEW + _CALL / self.work
        checked = last or not self.started or affordable >= size + reserve
        self.started = True
        self.credit += n * self.work * _SHARE - checked * (size * self.work + _CALL)
        return torch.linspace(0, n - 1, size).round().long() if checked else None
