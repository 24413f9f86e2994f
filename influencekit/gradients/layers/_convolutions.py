"""Convolutions: their inputs as patches, and their gradients."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from influencekit.gradients.blocks._base import WORKSPACE
from influencekit.utils._long_work import chunks

__all__ = [
    "conv_inputs",
    "conv_outputs",
    "conv_products",
    "grouped_conv",
    "transposed_conv",
    "unfold",
]

#: Bytes of patches that a CPU makes and multiplies at a time, so that they are still in cache.
_PATCH_BYTES = 2**20

_AnyConv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_AnyTransposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def unfold(module: _AnyConv, x: Tensor) -> Tensor:
    """Patches (n, channels * kernel, T) that the kernel is multiplied with."""
    return _patches(module, _padded(module, x))


def _padded(module: _AnyConv, x: Tensor) -> Tensor:
    """Images with their margin; rows of pixels lie together, which are copied fastest."""
    padding = module._reversed_padding_repeated_twice  # noqa: SLF001  torch's own
    if any(padding):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, padding, mode=mode)
    return x.contiguous()


def _patches(module: _AnyConv | _AnyTransposed, x: Tensor) -> Tensor:
    """The patches of an image that is padded already."""
    sizes = zip(x.shape[2:], module.kernel_size, module.dilation, module.stride, strict=True)
    places = [(size - (k - 1) * d - 1) // s + 1 for size, k, d, s in sizes]
    # a view of all patches; copying its rows of pixels is faster than F.unfold
    along = x.stride()[2:]
    inside = [step * d for step, d in zip(along, module.dilation, strict=True)]
    across = [step * s for step, s in zip(along, module.stride, strict=True)]
    shape = (*x.shape[:2], *module.kernel_size, *places)
    patches = x.as_strided(shape, (*x.stride()[:2], *inside, *across), x.storage_offset())
    return patches.reshape(len(x), x.shape[1] * prod(module.kernel_size), prod(places))


def conv_inputs(module: _AnyConv, x: Tensor) -> Tensor:
    return unfold(module, x).mT


def conv_outputs(_module: nn.Module, g: Tensor, _inputs: Tensor) -> Tensor:
    return g.flatten(3).mT


def conv_products(module: _AnyConv, x: Tensor, g: Tensor) -> Tensor:
    """Gradients of the kernel, from the patches of a few images at a time."""
    x, g = _padded(module, x), g.flatten(3)
    out = g.new_empty(*g.shape[:3], module.weight[0].numel())
    room = _PATCH_BYTES if x.device.type == "cpu" else WORKSPACE
    for part in chunks(len(x), out.shape[3] * g.shape[3] * x.element_size(), room):
        # (Σ_t a_t g_tᵀ)ᵀ with the patches a: the faster order, as kernels have few outputs
        found = torch.bmm(_patches(module, x[part]), g[part].flatten(1, 2).mT)
        out[part].flatten(1, 2).copy_(found.mT)
    return out.flatten(2)


def grouped_conv(module: nn.Module, patches: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    g = g.flatten(3).unflatten(2, (module.groups, -1))
    # Σ_t g_t a_tᵀ within each group of channels
    weight = torch.einsum("ngit,nrgot->nrgoi", patches.unflatten(1, (module.groups, -1)), g)
    return weight.flatten(2), g.sum(-1).flatten(2)


def transposed_conv(module: _AnyTransposed, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel takes the outputs' patches to the inputs."""
    padding: Any = [p for side in reversed(module.padding) for p in (side, side)]
    patches = _patches(module, F.pad(g.flatten(0, 1), padding)).unflatten(0, g.shape[:2])
    # Σ_t x_t p_tᵀ with the patches p of g
    weight = x.flatten(2)[:, None] @ patches.mT
    return weight.flatten(2), g.flatten(3).sum(3)
