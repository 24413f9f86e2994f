"""Linear maps that a model applies by a function: those of attention and recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from influencekit.gradients.layers._recurrent import unrolled

__all__ = ["linear_calls", "linear_uses", "unroll"]

#: ``tell(inputs, weight, bias, output) -> output`` to go on with.
Tell = Callable[[Tensor, Tensor, Tensor | None, Tensor], Tensor]


@contextmanager
def linear_calls(tell: Tell) -> Iterator[None]:
    """Tell of every call of ``F.linear`` in the block, also inside functions of torch.

    torch's name is exchanged meanwhile: hold ``MODULE_LOCK``.

    Parameters
    ----------
    tell : callable
        ``tell(inputs, weight, bias, output)`` returns the output to go on with.
    """
    linear = F.linear

    def told(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return tell(input, weight, bias, linear(input, weight, bias))

    F.linear = told
    try:
        yield
    finally:
        F.linear = linear


@contextmanager
def unroll(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let recurrent layers take their steps as single operations; hooks are always removed."""
    handles = [
        module.register_forward_hook(_steps, prepend=True, with_kwargs=True)  # type: ignore[call-arg]
        for module in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _steps(module: Any, args: Any, kwargs: Any, _output: Any) -> Any:
    return unrolled(module, *args, **kwargs)


def linear_uses(
    forward: Callable[[], Any], module: nn.Module, weights: dict[int, str], biases: dict[int, str]
) -> list[tuple[str, str | None, nn.Module | None]]:
    """Weights that a forward pass gives to ``F.linear``, with their bias and recurrent layer.

    Parameters
    ----------
    forward : callable
        Runs the module.
    module : torch.nn.Module
    weights, biases : dict of int to str
        Names of the parameters to look for, by identity.
    """
    recurrent: dict[int, nn.Module] = {
        id(p): part
        for part in module.modules()
        if isinstance(part, nn.RNNBase)
        for p in part.parameters()
        if id(p) in weights
    }
    found: dict[int, set] = {}

    def tell(_inputs: Tensor, weight: Tensor, bias: Tensor | None, output: Tensor) -> Tensor:
        if id(weight) in weights:
            found.setdefault(id(weight), set()).add(None if bias is None else id(bias))
        return output

    with torch.no_grad(), unroll(set(recurrent.values())), linear_calls(tell):
        forward()
    uses: list[tuple[str, str | None, nn.Module | None]] = []
    for weight, own in found.items():
        bias = biases.get(next(iter(own))) if len(own) == 1 else None
        uses.append((weights[weight], bias, recurrent.get(weight)))
    return uses
