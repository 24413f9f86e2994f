"""Dropout whose noise is one draw for all runs of a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from influencekit.training._dropout import DROPOUTS, _arguments
from influencekit.training._randomness import RandomStream

__all__ = ["SharedDropout"]


class SharedDropout(TorchFunctionMode):
    """While active, dropout inside a vmapped forward gives every run the same noise.

    The noise is what the native function makes of a tensor of ones under the stream, so each
    run sees what it would see alone under the same seed.  Other random functions are left
    alone, and ``vmap(randomness="error")`` refuses them.

    Parameters
    ----------
    stream : RandomStream
        Advanced in place.
    """

    def __init__(self, stream: RandomStream):
        super().__init__()
        self.stream = stream

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in DROPOUTS:
            return func(*args, **kwargs)
        x, p, training, inplace = _arguments(*args, **kwargs)
        if p == 0 or not training:
            return x
        noise = _SharedNoise.apply(x.detach(), func, p, self.stream)
        return x.mul_(noise) if inplace else x * noise


class _SharedNoise(torch.autograd.Function):
    """Noise of the shape of one run's input, drawn once outside of vmap."""

    @staticmethod
    def forward(x: Tensor, func: Callable, p: float, stream: RandomStream) -> Tensor:
        with stream.use():
            return func(torch.ones_like(x), p, True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep nothing: noise has no gradient."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        return None, None, None, None

    @staticmethod
    def vmap(info, in_dims, x: Tensor, func: Callable, p: float, stream: RandomStream):
        one = x.select(in_dims[0], 0)
        return _SharedNoise.forward(one, func, p, stream), None
