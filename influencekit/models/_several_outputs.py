"""Which of a module's several outputs the loss gets: all of them, or the one that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._packing import pack

__all__ = ["loss_output", "settle_outputs"]

#: What a loss raises on outputs in a form that it was not written for.
_NOT_TAKEN = (TypeError, AttributeError, KeyError, IndexError, ValueError, RuntimeError)


def loss_output(raw: Any, loss: Any, name: str) -> Tensor:
    """The tensor for the loss from what a module returned.

    Parameters
    ----------
    raw : object
        Return value of the module, not a Tensor.
    loss : OutputLoss
        A loss that takes several outputs gets all of them, side by side.
    name : str
        The module's name, for errors.

    Returns
    -------
    Tensor

    Raises
    ------
    UnsupportedModelError
        If the output for the loss cannot be told.
    """
    if isinstance(loss, CustomLoss) and loss.outputs_packing is not None:
        return pack(raw, f"model: {name}")[0]
    found = main_output(raw)
    if isinstance(found, Tensor):
        return found
    named = ", ".join(repr(key) for key, _ in _fields(raw)) or "none by name"
    raise UnsupportedModelError(
        f"model: {name} returned {type(raw).__name__} (entries: {named}); accepted is a Tensor, a "
        "tuple or list whose first item is one, or a dict, named tuple or object with 'logits'. "
        "Give a loss of the whole output, for instance "
        "loss=lambda output, y: F.mse_loss(output.mean, y), or wrap the model in a module that "
        "returns the tensor for the loss."
    )


def main_output(raw: Any) -> Any:
    """The entry ``logits`` among named entries, or a tuple's first item."""
    fields = _fields(raw)
    if not fields:
        return raw[0] if isinstance(raw, (tuple, list)) and raw else raw
    return dict(fields).get("logits", raw)


def _fields(raw: Any) -> list[tuple[str, Any]]:
    """Entries of an output with names."""
    if isinstance(raw, Mapping):
        return [(str(key), value) for key, value in raw.items()]
    if hasattr(raw, "_fields"):
        return list(zip(raw._fields, raw, strict=True))
    if isinstance(raw, (tuple, list)) or not hasattr(raw, "__dict__"):
        return []
    return list(vars(raw).items())


def _dtype(raw: Any) -> torch.dtype:
    """Floating dtype of several outputs."""
    return pack(raw, "model")[0].dtype


def settle_outputs(loss: CustomLoss, raw: Any, targets: Any, name: str) -> None:
    """Find out whether a function as loss takes all outputs of a module, as its training did.

    The loss is called with the whole output of a few examples. If it can take that, it always gets
    the whole; if not, the main output.

    Parameters
    ----------
    loss : CustomLoss
    raw : object
        What the module returned for some examples.
    targets : Tensor
        Their targets.
    name : str
        The module's name, for errors.
    """
    if isinstance(raw, Tensor) or loss.outputs_packing is not None:
        return
    try:
        with torch.no_grad():
            value = loss.function(raw, loss.targets_of(targets, _dtype(raw)))
    except UnsupportedModelError:
        raise
    except _NOT_TAKEN as error:
        if isinstance(main_output(raw), Tensor):
            return
        raise UnsupportedModelError(
            f"loss: it cannot take what {name} returns, a {type(raw).__name__}: {error}"
        ) from error
    if isinstance(value, Tensor):
        loss.outputs_packing = pack(raw, f"model: {name}")[1]
