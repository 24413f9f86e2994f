"""Comparisons of tensors, in pieces."""

import math

import pytest
import torch

from influencekit.utils import _torch
from influencekit.utils._torch import largest_difference


@pytest.mark.parametrize("piece", [3, 2**18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_the_largest_difference(piece, dtype, monkeypatch):
    monkeypatch.setattr(_torch, "_PIECE", piece)
    x, y = (
        torch.randn(5, 4, dtype=dtype, generator=torch.Generator().manual_seed(i)) for i in (0, 1)
    )
    assert largest_difference(x, y) == float((x - y).abs().max())
    assert largest_difference(x.T, y.T) == float((x - y).abs().max())
    assert largest_difference(x[:0], y[:0]) == 0
    x[2, 1] = math.nan
    assert math.isnan(largest_difference(x, y))
