"""Recurrent layers, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["unrolled"]

#: ``(inputs' share of the gates, state) -> state`` with the state's first tensor as the output.
Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def unrolled(module: nn.RNNBase, input: Any, hx: Any = None) -> Any:
    """What an LSTM, GRU or RNN returns, with every step as operations of its own.

    Parameters
    ----------
    module : torch.nn.RNNBase
    input : Tensor of shape (T, n, d), or (n, T, d) where the module has its batch first
    hx : Tensor, tuple of Tensor or None

    Returns
    -------
    tuple, or None where the module's own output is to be used: for packed sequences, an example
    without a batch, dropout.
    """
    if not isinstance(input, Tensor) or input.ndim != 3 or (module.training and module.dropout):
        return None
    x = input.transpose(0, 1) if module.batch_first else input
    states = _first_states(module, x, hx)
    directions = 1 + module.bidirectional
    ends: list[tuple[Tensor, ...]] = []
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            suffix = f"_l{layer}" + "_reverse" * direction
            state = tuple(part[len(ends)] for part in states)
            found, state = _pass(module, suffix, x.flip(0) if direction else x, state)
            outputs.append(found.flip(0) if direction else found)
            ends.append(state)
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=2)
    last = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
    out = x.transpose(0, 1) if module.batch_first else x
    return out, last if module.mode == "LSTM" else last[0]


def _first_states(module: nn.RNNBase, x: Tensor, hx: Any) -> tuple[Tensor, ...]:
    if hx is not None:
        return hx if isinstance(hx, tuple) else (hx,)
    n_passes = module.num_layers * (1 + module.bidirectional)
    hidden = x.new_zeros(n_passes, x.shape[1], module.proj_size or module.hidden_size)
    if module.mode != "LSTM":
        return (hidden,)
    return hidden, x.new_zeros(n_passes, x.shape[1], module.hidden_size)


def _pass(
    module: nn.RNNBase, suffix: str, x: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (T, n, d) of one layer in one direction, and its last state."""
    own = dict(module.named_parameters(recurse=False))
    moved = F.linear(x, own[f"weight_ih{suffix}"], own.get(f"bias_ih{suffix}"))
    weight, bias = own[f"weight_hh{suffix}"], own.get(f"bias_hh{suffix}")
    project, step = own.get(f"weight_hr{suffix}"), _STEPS[module.mode]
    outputs = []
    for gates in moved:
        state = step(gates, F.linear(state[0], weight, bias), state)
        if project is not None:
            state = (F.linear(state[0], project), *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs), state


def _lstm(x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    enter, keep, new, out = (x + h).chunk(4, dim=1)
    # c = σ(f) c + σ(i) tanh(g),  h = σ(o) tanh(c)
    cell = keep.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def _gru(x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (reset, keep, new), (h_reset, h_keep, h_new) = x.chunk(3, dim=1), h.chunk(3, dim=1)
    keep = (keep + h_keep).sigmoid()
    # n = tanh(x_n + r h_n),  h = (1 - z) n + z h
    new = (new + (reset + h_reset).sigmoid() * h_new).tanh()
    return (new + keep * (state[0] - new),)


def _tanh(x: Tensor, h: Tensor, _state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return ((x + h).tanh(),)


def _relu(x: Tensor, h: Tensor, _state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return ((x + h).relu(),)


_STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _tanh, "RNN_RELU": _relu}
