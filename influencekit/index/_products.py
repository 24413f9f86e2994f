"""Products of queries with rows as they are stored."""

from __future__ import annotations

from functools import cache

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


class Products:
    """Queries, made ready to be multiplied with blocks of rows.

    Rows of float16 are converted a few at a time.  Rows of int8 are multiplied as they are, where
    the processor can, with queries written in three digits of int8: sums are exact.  The first
    digit alone says of most rows that they are not among the best.

    Parameters
    ----------
    queries : Tensor of shape (m, dim), float64
    dtype : torch.dtype
        That of the rows.
    """

    def __init__(self, queries: Tensor, dtype: torch.dtype):
        sizes = queries.abs().amax(1, keepdim=True)
        unit = queries / torch.where(sizes > 0, sizes, 1.0)
        #: What products are multiplied by, (m, 1); NaN says that a query is not finite.
        self.sizes = torch.where(sizes.isfinite(), sizes, torch.nan).numpy()
        self.digits: Tensor | None = None
        self.numbers = unit.float()
        #: What the error of an estimate is at most, (m, 1), and what estimates are multiples of.
        self.slack, self.steps = torch.zeros(len(queries), 1), 1
        dim = queries.shape[1]
        if dtype == torch.int8 and dim <= _LONGEST and _has_exact_integers():
            self.digits = _digits(unit)
            self.slack, self.steps = _slack(self.digits), _STEPS
        elif dtype != torch.float32:
            self._room = torch.empty(max(1, PART // (4 * dim)), dim)

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
        if self.digits is None:
            return self._floats(rows)
        first = self.digits[: len(self.digits) // _DIGITS]
        return torch._int_mm(first, rows.mT).float()  # noqa: SLF001

    def of_some(self, rows: Tensor, estimates: Tensor, places: Tensor) -> Tensor:
        """The same bits as all products with some rows has at some places, (m, n_places)."""
        if self.digits is None:
            return estimates[:, places].double()
        return self(rows[places])

    def _floats(self, rows: Tensor) -> Tensor:
        if rows.dtype == torch.float32:
            return self.numbers @ rows.mT
        found = torch.empty(len(self.numbers), len(rows))
        for part in chunks(len(rows), 1, len(self._room)):
            some = self._room[: part.stop - part.start].copy_(rows[part])
            found[:, part] = self.numbers @ some.mT
        return found


def _slack(digits: Tensor) -> Tensor:
    """What the second and third digits can add at most, and rounding to float32, (m, 1)."""
    high, middle, low = digits.double().abs().sum(1, keepdim=True).unflatten(0, (_DIGITS, -1))
    # 128 Σ_k |d₂ + d₃ / 254| / 254, and 1e-6 of 128 Σ_k |d₁|
    return (128 * ((middle + low / _BASE) / _BASE + 1e-6 * high)).float() * (1 + 1e-6)


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
