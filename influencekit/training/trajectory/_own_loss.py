"""Losses that a model makes of its labels itself, in a narrower dtype than its weights have.

The causal, masked and token heads of the transformers library round their logits to float32 before
the loss.  A training in float64 can be repeated exactly only with this very loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.exceptions import TrajectoryError
from influencekit.models._call import call_module
from influencekit.utils._torch import MODULE_LOCK, uncompiled

__all__ = ["agreed", "own_loss", "watch_own_loss"]

#: Largest difference of two losses, relative to them, that counts as rounding.
ROUNDING = 1e-4


def watch_own_loss(module: nn.Module, tell: Callable[[], None]) -> Any:
    """Tell once the module has made a loss of its labels that is narrower than its weights.

    Parameters
    ----------
    module : torch.nn.Module
    tell : callable

    Returns
    -------
    torch.utils.hooks.RemovableHandle
    """
    widest = max((p.dtype for p in module.parameters()), key=lambda dtype: dtype.itemsize)

    def see(_module: nn.Module, _args: Any, named: dict[str, Any], output: Any) -> None:
        loss = getattr(output, "loss", None)
        if "labels" in named and isinstance(loss, Tensor) and loss.dtype.itemsize < widest.itemsize:
            tell()

    return module.register_forward_hook(see, with_kwargs=True)


def own_loss(
    module: nn.Module,
    inputs: Any,
    targets: Tensor,
    parameters: dict[str, Tensor],
    n_items: float | None = None,
) -> Tensor:
    """The loss of a batch that a module makes of its labels itself.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : dict of Tensor
    targets : Tensor
        Its labels.
    parameters : dict of str to Tensor
    n_items : float, default=None
        Number by which it divides the sum over labels; None is their own number.

    Returns
    -------
    Tensor of shape ()
    """
    named = {**inputs, "labels": targets}
    if n_items is not None:
        named["num_items_in_batch"] = torch.tensor(n_items, dtype=torch.int64)
    with MODULE_LOCK, uncompiled():
        return call_module(module, named, parameters)["loss"]


def agreed(own: Tensor, read: Tensor, rounding: float = ROUNDING) -> Tensor:
    """The module's own loss, if it is the one that the Task has.

    Raises
    ------
    TrajectoryError
        If they differ by more than rounding.
    """
    if not torch.isclose(own.to(read.dtype), read, rtol=rounding, atol=rounding):
        raise TrajectoryError(
            f"trajectory: the model's own loss of a step is {own.item():.6g}, and that of the "
            f"given loss and weights {read.item():.6g}. Accepted is the loss that was trained on: "
            "give X and y as they were given to fit, and leave out loss and sample_weight."
        )
    return own
