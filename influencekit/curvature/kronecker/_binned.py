"""Path on which a damping is chosen: products of coordinates are summed by eigenvalue, once.

Eigenvalues in one bin differ by 12% at most, and what is summed is linear in them there. So scores
and ξ at a damping are sums over bins, and need no products over coordinates.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from influencekit.curvature._spectrum import DampingPath, SubsetSums
from influencekit.curvature.kronecker._spectrum import KroneckerPath, KroneckerSpectrum
from influencekit.curvature.kronecker._store import dense_room, repeats
from influencekit.gradients._gradients import Gradients

__all__ = [
    "BinnedPath",
    "choosing_path",
    "dense_layers",
    "dense_parts",
    "path_of_others",
    "put_rows",
]

#: Bins for each factor of ten, and powers of ten below the largest eigenvalue that they cover.
_BINS, _DECADES = 20, 9
#: Bytes of dense coordinates that are multiplied at a time.
_PART_BYTES = 2**25


@dataclass
class BinnedPath(DampingPath):
    """Products of coordinates by bins of eigenvalues; what is cheap at each damping stays exact.

    Attributes
    ----------
    spectrum : KroneckerSpectrum
    rest : KroneckerPath
        The path of the layers that are not in bins.
    values, variances : Tensor of shape (n_bins,), float64
        Mean eigenvalue of each bin, and the variance within it.
    by_bin : Tensor of shape (n_bins, 2, n_query, n_train)
        Products of coordinates, and those weighted with what their eigenvalues are above the mean.
    squares : Tensor of shape (2, n_bins, n_query)
        The same sums of squared coordinates of queries, times the data's share of eigenvalues.
    train_weights : Tensor of shape (n_train,), float64
    """

    spectrum: KroneckerSpectrum
    rest: KroneckerPath
    values: Tensor
    variances: Tensor
    by_bin: Tensor
    squares: Tensor
    train_weights: Tensor

    def products(self, damping: float) -> Tensor:
        factors = self._factors(1 / (self.values + damping), 1).mT.to(self.by_bin.dtype)
        # Σ_b Σ_{k in b} c_ik c_jk / (s_k + λ)
        found = torch.tensordot(factors, self.by_bin, 2)
        return found + self.rest.products(damping)

    def _factors(self, inverse: Tensor, k: int) -> Tensor:
        """Factors (2, n_bins) of both sums for ``1 / (s + λ)^k``, from ``1 / (s_b + λ)``."""
        # with d = s - s_b: 1 / (s_b + λ)^k (1 + k (k + 1) / 2 mean(d²) / (s_b + λ)²), and
        # -k d / (s_b + λ)^(k + 1)
        second = k * (k + 1) / 2 * self.variances * inverse.square()
        return torch.stack([inverse**k * (1 + second), -k * inverse ** (k + 1)])

    def xi(self, dampings: ArrayLike) -> np.ndarray:
        dampings = np.atleast_1d(np.asarray(dampings, dtype=np.float64))
        sums = self.rest.power_sums(dampings)
        for i, damping in enumerate(dampings):
            inverse = 1 / (self.values + damping)
            largest = self.spectrum.inverse_table(float(damping)).max()  # the factor of the rest
            for k in (1, 2, 3):
                factors = self._factors(inverse, k) / largest**k
                # Σ_b Σ_{k in b} d_k c_k² / (s_k + λ)^k
                sums[k - 1, i] += torch.tensordot(factors, self.squares, 2)
        t1, t2, t3 = sums
        return (t2 / torch.sqrt(t1 * t3)).cpu().numpy()

    def subset_sums(self, masks: ArrayLike) -> SubsetSums:
        raise NotImplementedError("Only scores and ξ are needed to choose a damping.")


def choosing_path(spectrum: KroneckerSpectrum, rows: Tensor) -> DampingPath:
    """Some training examples as queries, for scores of all of a spectrum's at many dampings.

    Parameters
    ----------
    spectrum : KroneckerSpectrum
        With the training examples to score.
    rows : Tensor of int64
        Positions of the queries among them.

    Returns
    -------
    DampingPath
    """
    train, names = spectrum.train, dense_layers(spectrum, rows)
    needed = 2 * (_DECADES * _BINS + 1) * len(rows) * len(train) * train.sample.dtype.itemsize
    if not names or needed > dense_room(train):
        return spectrum.train_path(rows)
    weights = spectrum.problem.example_weights
    rest = path_of_others(spectrum, rows, names)
    return BinnedPath(spectrum, rest, *_summed(spectrum, rows, names), weights)


def dense_layers(spectrum: KroneckerSpectrum, rows: Tensor) -> list[str]:
    """Layers whose dense coordinates are made to choose a damping, once; of these queries."""
    train = spectrum.train
    return [
        name
        for name, block in train.sample.blocks.items()
        if train.is_held
        and repeats(block)
        and len(rows) * block.dense_bytes <= dense_room(train) // 2
    ]


def path_of_others(spectrum: KroneckerSpectrum, rows: Tensor, names: list[str]) -> KroneckerPath:
    """The path of the layers that are not in ``names``."""
    others = copy.copy(spectrum)
    others.bases = {k: basis for k, basis in spectrum.bases.items() if k not in names}
    queries = _without(spectrum.train, names).take(rows)
    return KroneckerPath(others, queries, spectrum.problem.example_weights)


def _without(kept: Gradients, names: list[str]) -> Gradients:
    """Kept coordinates without some blocks, so that a choice of rows does not copy these."""
    others = [name for name in kept.sample.blocks if name not in names] or names[-1:]
    parts = (features for _, features in kept)
    return kept.kept(part.with_blocks({k: part.blocks[k] for k in others}) for part in parts)


def _summed(
    spectrum: KroneckerSpectrum, rows: Tensor, names: list[str]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and variance of each bin, its products and weighted squares, over some layers."""
    train, table = spectrum.train, spectrum.table
    data = spectrum.data_table / spectrum.data_table.max()
    largest = table.max()
    depth = -torch.log10((table / largest).clamp_min(10.0**-_DECADES))
    bins, n_bins = (depth * _BINS).long(), _DECADES * _BINS + 1
    counts = torch.bincount(bins, minlength=n_bins)
    values = torch.bincount(bins, table, minlength=n_bins) / counts.clamp_min(1)
    like = torch.empty(0, dtype=train.sample.dtype, device=table.device)
    above = table - values[bins]
    variances = torch.bincount(bins, above.square(), minlength=n_bins) / counts.clamp_min(1)
    products = like.new_zeros(n_bins, 2 * len(rows), len(train))
    squares = values.new_zeros(2, n_bins, len(rows))
    for name in names:
        columns = spectrum.bases[name].columns
        order = bins[columns].argsort(stable=True)
        ends = [0, *torch.bincount(bins[columns], minlength=n_bins).cumsum(0).tolist()]
        places = [(b, slice(*ends[b : b + 2])) for b in range(n_bins) if ends[b] < ends[b + 1]]
        shares = torch.stack([data[columns][order], (data * above)[columns][order]])
        both = like.new_empty(2 * len(rows), len(order))
        left, weighted = both.chunk(2)
        put_rows(train, name, order, rows, left)
        for b, place in places:
            squares[:, b] += shares[:, place] @ left[:, place].to(shares.dtype).square().mT
        weighted.copy_(_normal(left * above[columns][order].to(left)))
        for at, right in dense_parts(train, name, order):
            for b, place in places:
                products[b, :, at].addmm_(both[:, place], right[:, place].mT)
    return values, variances, products.unflatten(1, (2, -1)), squares


def _normal(numbers: Tensor) -> Tensor:
    """The same numbers with 0 for those whose products are below the smallest normal number.

    They are below 1e-19 of the largest, or far below, and products with them take several times as
    long.
    """
    if not numbers.numel():
        return numbers
    low, high = numbers.aminmax()
    least = torch.finfo(numbers.dtype).tiny ** 0.5 * min(1.0, max(-float(low), float(high)))
    return F.hardshrink(numbers, least)


def put_rows(train: Gradients, name: str, order: Tensor, rows: Tensor, out: Tensor) -> None:
    """Write a layer's dense coordinates of some examples, in an order."""
    for at, features in train:
        inside = (rows >= at.start) & (rows < at.stop)
        if inside.any():
            dense = features.blocks[name][rows[inside] - at.start].dense()
            out[inside] = _normal(dense.index_select(1, order))


def dense_parts(train: Gradients, name: str, order: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Dense coordinates of a layer in an order, of some examples at a time."""
    block = train.sample.blocks[name]
    size = min(len(train), max(1, _PART_BYTES // block.dense_bytes))
    start, stop = 0, 0
    held = torch.empty(size, len(order), dtype=block.dtype, device=block.device)
    for _, features in train:
        block, done = features.blocks[name], 0
        while done < len(features):
            n = min(len(features) - done, size - (stop - start))
            rows = held[stop - start : stop - start + n]
            torch.index_select(block[done : done + n].dense(), 1, order, out=rows)
            done, stop = done + n, stop + n
            if stop - start == size or stop == len(train):
                yield slice(start, stop), _normal(held[: stop - start])
                start = stop
