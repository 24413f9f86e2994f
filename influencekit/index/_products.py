"""Products of queries with rows as they are stored."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from influencekit.utils._long_work import chunks

__all__ = ["Products"]

#: Bytes of rows that are converted to float32 at once: they stay in the processor's cache.
PART = 2**19
#: A query's numbers as three digits: as precise as float32.
_STEPS, _BASE, _DIGITS = 127, 254, 3
#: Numbers of a row whose integer products fit into 32 bits.
_LONGEST = 2**31 // 128**2 - 1
#: Numbers of a row whose products in float16 are estimated well enough.
_LONGEST_HALF = 2**12
#: Share by which one operation in float32, and in float16, may be off.
_UNIT, _UNIT_HALF = 2.0**-24, 2.0**-11
#: Beyond what is lost to the smallest numbers of float16.
_TINY = 2.0**-24
#: Bytes of pairs that are multiplied in float64 at once.
_PAIRS = 2**24


class Products:
    """Queries, made ready to be multiplied with blocks of rows.

    All products are as precise as float32: rows of float16 are converted a few at a time, and rows
    of int8 are multiplied as they are, where the processor can, with queries written in three
    digits of int8.  Estimates with a known error are cheaper: the first digit alone, or one query
    rounded to float16.

    Parameters
    ----------
    queries : Tensor of shape (m, dim), float64
    dtype : torch.dtype
        That of the rows.
    """

    def __init__(self, queries: Tensor, dtype: torch.dtype):
        sizes = queries.abs().amax(1, keepdim=True)
        #: Queries up to 1, (m, dim), float64.
        self.unit = queries / torch.where(sizes > 0, sizes, 1.0)
        #: What products are multiplied by, (m, 1); NaN says that a query is not finite.
        self.sizes = torch.where(sizes.isfinite(), sizes, torch.nan).numpy()
        self.digits: Tensor | None = None
        self.half: Tensor | None = None
        self.numbers = self.unit.float()
        m, dim = queries.shape
        #: What the error of an estimate is at most, (m, 1), and what estimates are multiples of.
        self.slack, self.steps = _slack(self.unit, self.numbers), 1
        if dtype == torch.int8:
            self.slack *= _STEPS
        if dtype == torch.int8 and dim <= _LONGEST and _has_exact_integers():
            self.digits = _digits(self.unit)
            self.steps = _STEPS
            first = self.digits[:m].double()
            # Σ_k |127 q_k - d_k| |r_k| with |r_k| up to 127, and sums that become float32
            left = (_STEPS * self.unit - first).abs() + 2 * _UNIT * first.abs()
            self.slack = _STEPS * left.sum(1, keepdim=True)
        elif dtype != torch.float32:
            self._room = torch.empty(max(1, PART // (4 * dim)), dim)
        if dtype == torch.float16 and m == 1 and dim <= _LONGEST_HALF and _has_exact_halves():
            self.half = self.unit[0].half()
            self.slack = _slack(self.unit, self.half[None], _UNIT_HALF)

    def __call__(self, rows: Tensor) -> Tensor:
        """Products with some rows (n, dim), (m, n), float64."""
        if self.digits is None:
            return self._floats(rows).double()
        found = torch._int_mm(self.digits, rows.mT)  # noqa: SLF001  torch has no other name for it
        high, middle, low = found.unflatten(0, (_DIGITS, -1))
        # (d₁ + (d₂ + d₃ / 254) / 254) / 127
        parts = low.double().div_(_BASE).add_(middle).div_(_BASE).add_(high)
        return parts.div_(_STEPS)

    def estimates(self, rows: Tensor) -> Tensor:
        """Products with some rows times ``steps``, up to ``slack``, (m, n), float32."""
        if self.digits is not None:
            first = self.digits[: len(self.digits) // _DIGITS]
            return torch._int_mm(first, rows.mT).float()  # noqa: SLF001
        if self.half is not None:
            return (rows @ self.half).float()[None]
        return self._floats(rows)

    def of_pairs(self, rows: Tensor, queries: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Products of some queries with a row each, (n_pairs,), float64 throughout.

        A pair's product depends on nothing but the pair: equal rows have equal scores.
        """
        found = np.empty(len(places))
        for part in chunks(len(places), 8 * rows.shape[1], _PAIRS):
            some = rows[places[part]].double().numpy()
            found[part] = np.einsum("ij,ij->i", self.unit[queries[part]].numpy(), some)
        return found

    def _floats(self, rows: Tensor) -> Tensor:
        if rows.dtype == torch.float32:
            return self.numbers @ rows.mT
        found = torch.empty(len(self.numbers), len(rows))
        for part in chunks(len(rows), 1, len(self._room)):
            some = self._room[: part.stop - part.start].copy_(rows[part])
            found[:, part] = self.numbers @ some.mT
        return found


def _slack(unit: Tensor, rounded: Tensor, end: float = 0.0) -> Tensor:
    """What products of rounded queries with rows up to 1 are off at most, (m, 1), float64.

    Errors of ``dim`` sums in float32 add up to 8 √dim of one, except with a chance of 1e-13
    (Higham and Mary, 2019); ``end`` is that of rounding the product.
    """
    dim, numbers = unit.shape[1], rounded.double()
    sums = min(dim, 8 * dim**0.5) * _UNIT + end
    lost = (unit - numbers).abs() + sums * numbers.abs()
    return lost.sum(1, keepdim=True) + _TINY


def _digits(unit: Tensor) -> Tensor:
    """Numbers up to 1 in three digits each, (3 m, dim) in int8: all first digits come first."""
    left, digits = torch.nan_to_num(unit) * _STEPS, []
    for _ in range(_DIGITS):
        digits.append(left.round())
        left = (left - digits[-1]) * _BASE
    return torch.cat(digits).to(torch.int8)


@cache
def _has_exact_integers() -> bool:
    """Whether products of int8 are fast here, and their sums do not saturate."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    largest = torch.full((3, 512), _STEPS, dtype=torch.int8)
    largest[1] = -_STEPS
    largest[2, ::2] = -_STEPS
    try:
        found = torch._int_mm(largest, largest.mT)  # noqa: SLF001
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(found.long(), largest.long() @ largest.long().mT)


@cache
def _has_exact_halves() -> bool:
    """Whether products of float16 are fast here, and their sums are those of float32."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    query = torch.full((_LONGEST_HALF,), 1 / _LONGEST_HALF, dtype=torch.float16)
    query[0] = 1.0  # beside which float16 has no place for the others
    found = torch.stack([query.roll(i) for i in range(64)]) @ torch.ones_like(query)
    return bool((found.double() - query.double().sum()).abs().max() <= 2 * _UNIT_HALF)
