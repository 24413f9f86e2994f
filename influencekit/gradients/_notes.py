"""What a pass over gradients notes on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import Block
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.utils._long_work import chunks

__all__ = ["Notes"]

#: What an entry of a dense row costs, in multiplications of inner products of positions.
_ENTRY = 24
#: Bytes of dense rows at a time.
_DENSE_BYTES = 2**23


class Notes:
    """By-products of a full pass if ``shares`` are given: the mean and squared norms."""

    def __init__(self, gradients: Any):
        self.known = gradients._known  # noqa: SLF001  notes that both keep
        self.shares = None if "mean" in self.known else gradients.shares
        self.norms: list[Tensor] = []
        self.mean: Any = 0.0

    def of(self, rows: slice, features: GradientFeatures) -> tuple[Tensor, Tensor] | None:
        """What is noted of one batch: its weighted sum and squared norms."""
        if self.shares is None:
            return None
        share = self.shares[None, rows].to(features.dtype)
        dense = [k for k, block in features.blocks.items() if _takes_rows(block)]
        rest = {k: block for k, block in features.blocks.items() if k not in dense}
        sums, norms = share.new_zeros(1, features.n_parameters), share.new_zeros(len(features))
        if rest or not dense:
            others = features.with_blocks(rest)
            sums, norms = others.weighted_sums(share), others.squared_norms()
        for name in dense:
            _add_rows(features.blocks[name], share, sums, norms)
        return sums[0].to(torch.float64), norms

    def add(self, noted: tuple[Tensor, Tensor] | None) -> None:
        """Add what was noted of the next batch."""
        if noted is not None:
            self.mean = self.mean + noted[0]
            self.norms.append(noted[1])

    def close(self) -> None:
        """Keep the notes of all batches."""
        if self.shares is not None:
            norms = torch.cat(self.norms)
            self.known.update({"mean": self.mean, norms.dtype: norms})


def _takes_rows(block: Block) -> bool:
    """Whether dense rows, made once for the sum and the norms, take less time than factors."""
    if not isinstance(block, OuterBlock) or block.length == 1 or block.rows_per_example > 1:
        return False
    length, d_in, d_out = block.factor_shape
    return length**2 * (d_in + d_out) > _ENTRY * d_in * d_out


def _add_rows(block: Block, share: Tensor, sums: Tensor, norms: Tensor) -> None:
    """Add a block's weighted sum and squared norms, from dense rows that are made once."""
    total = sums.new_zeros(1, block.spec.width)
    for part in chunks(block.n_examples, block.dense_bytes, _DENSE_BYTES):
        rows = block[part].dense()
        # Σ_i w_i g_i, and ‖g_i‖²
        total.addmm_(share[:, part], rows)
        norms[part] += rows.square_().sum(1)
    own = sums.new_zeros(sums.shape)
    block.spec.scatter(total, own)
    sums += own
