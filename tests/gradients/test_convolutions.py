"""Gradients of kernels, multiplied out a few images at a time, against autograd."""

import pytest
import torch
from torch import nn

from influencekit.gradients.layers import _convolutions
from influencekit.gradients.layers._convolutions import conv_products
from influencekit.gradients.layers._layers import Layer
from influencekit.gradients.layers._rules import RULES

KINDS = {
    "plain": (nn.Conv2d(2, 3, 3), (7, 6)),
    "padded": (nn.Conv2d(2, 3, (3, 2), padding=(1, 2), stride=2), (7, 6)),
    "same": (nn.Conv2d(3, 2, (3, 5), padding="same"), (6, 6)),
    "dilated": (nn.Conv2d(2, 3, 2, dilation=(2, 1), bias=False), (7, 6)),
    "reflected": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (7, 6)),
    "text": (nn.Conv1d(2, 3, 3, padding=1), (9,)),
    "volume": (nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), (3, 4, 3)),
}


def _autograd(module, x, g):
    """Gradients of each example and row, by one backward pass each."""
    rows = []
    for image, cotangents in zip(x, g, strict=True):
        for c in cotangents:
            found = torch.autograd.grad(module(image[None]), list(module.parameters()), c[None])
            rows.append(torch.cat([p.flatten() for p in found]))
    return torch.stack(rows).view(*g.shape[:2], -1)


def _sides(module, size, rows, n=5):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, module.in_channels, *size, generator=generator, dtype=torch.float64)
    shape = module(x).shape[1:]
    return x, torch.randn(n, rows, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("room", [1, 2**12, 2**20])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_of_a_few_images_at_a_time(kind, rows, room, monkeypatch):
    monkeypatch.setattr(_convolutions, "_PATCH_BYTES", room)
    module, size = KINDS[kind]
    module = module.double()
    x, g = _sides(module, size, rows)
    expected = _autograd(module, x, g)[..., : module.weight.numel()]
    torch.testing.assert_close(conv_products(module, x, g), expected)
    if x.ndim == 4:  # channels last in memory
        moved = [x.contiguous(memory_format=torch.channels_last)]
        moved.append(g.movedim(2, -1).contiguous().movedim(-1, 2))
        torch.testing.assert_close(conv_products(module, *moved), expected)


@pytest.mark.parametrize("keep_factors", [False, True])
@pytest.mark.parametrize("rows_each", [1, 2])
@pytest.mark.parametrize("n_calls", [1, 2])
def test_blocks_of_several_calls_and_rows_of_an_example(n_calls, rows_each, keep_factors):
    module = nn.Conv2d(2, 2, 2).double()
    size = module.weight.numel()
    columns = (slice(0, size), slice(size, size + 2))
    layer = Layer("", module, RULES[nn.Conv2d], True, True, columns)
    sides = [_sides(module, (6, 5 + call), 2, 3 * rows_each) for call in range(n_calls)]
    block = layer.block([(x, g.transpose(0, 1)) for x, g in sides], 3, keep_factors)
    # rows of an example lie together
    expected = sum(_autograd(module, x, g).unflatten(0, (3, -1)).sum(1) for x, g in sides)
    torch.testing.assert_close(block.dense(), expected.flatten(0, 1))
    assert block.has_factors == keep_factors
