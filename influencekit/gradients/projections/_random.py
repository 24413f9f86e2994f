"""Random matrices that depend only on a seed: the same on every device and in any chunks."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from torch import Tensor

__all__ = ["random_rows", "uniform_rows"]

_ENTRIES = 2**18  # entries drawn from one stream


def random_rows(
    law: str, seed: int, name: str, start: int, stop: int, dim: int, like: Tensor
) -> Tensor:
    """Rows ``start`` to ``stop`` of a random matrix with ``dim`` columns and unit variance.

    Parameters
    ----------
    law : {"rademacher", "gaussian"}
        Distribution of the entries: signs, or normal variates.
    seed : int
    name : str
        Name of the matrix: matrices with different names are independent.
    start, stop : int
    dim : int
    like : Tensor
        Tensor with the dtype and device.

    Returns
    -------
    Tensor of shape (stop - start, dim)
    """
    out = np.empty((stop - start, dim), dtype=np.float32)
    step = max(1, _ENTRIES // dim)
    for chunk in range(start // step, -(-stop // step)):
        first = chunk * step
        low, high = max(start, first), min(stop, first + step)
        values = _draw(law, (seed, crc32(name.encode()), dim, chunk), (high - first) * dim)
        out[low - start : high - start] = values.reshape(-1, dim)[low - first :]
    return torch.from_numpy(out).to(device=like.device, dtype=like.dtype)


def _draw(law: str, entropy: tuple[int, ...], size: int) -> np.ndarray:
    bits = np.random.SFC64(np.random.SeedSequence(entropy))
    if law == "gaussian":
        return np.random.Generator(bits).standard_normal(size, dtype=np.float32)
    words = bits.random_raw(-(-size // 64)).astype("<u8", copy=False)
    signs = np.unpackbits(words.view(np.uint8), count=size).view(np.int8)
    return 1 - 2 * signs


def uniform_rows(seed: int, start: int, stop: int, width: int) -> np.ndarray:
    """Rows ``start`` to ``stop`` of a random matrix with entries uniform in (0, 1).

    The generator is counter-based: a row depends only on its number, not on earlier rows.

    Parameters
    ----------
    seed : int
    start, stop : int
    width : int

    Returns
    -------
    ndarray of shape (stop - start, width), float64
    """
    draws = -(-width // 4)  # each step of the counter gives four numbers
    bits = np.random.Philox(key=[seed, width], counter=start * draws)
    values = np.random.Generator(bits).random((stop - start, 4 * draws))[:, :width]
    return np.maximum(values, 2.0**-54)
