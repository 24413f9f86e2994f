"""Which of a module's several outputs the loss gets: all of them, or a certain one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._packing import pack

__all__ = ["loss_output", "says_shapes", "takes_all", "tensors_without_names"]

#: What a loss raises on outputs in a form that it was not written for.
_NOT_TAKEN = (TypeError, AttributeError, KeyError, IndexError, ValueError, RuntimeError)


def loss_output(raw: Any, loss: Any, place: tuple[Any, ...] | None, name: str) -> Tensor:
    """The tensor for the loss from what a module returned.

    Parameters
    ----------
    raw : object
        Return value of the module, not a Tensor.
    loss : OutputLoss
        A loss that takes several outputs gets all of them, side by side.
    place : tuple or None
        Which entry of a tuple it is, if that was found out.
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
    found = dict(_fields(raw)).get("logits", raw)
    if isinstance(found, Tensor):
        return found
    tensors = tensors_without_names(raw)
    if place is None and len(tensors) == 1:
        return tensors[0][1]
    for own, tensor in tensors:
        if own == place:
            return tensor
    if len(tensors) > 1:
        raise UnsupportedModelError(
            f"model: {name} returned {says_shapes(raw)} without names. Which of them the loss gets "
            "is found out on data with targets: fit first."
        )
    named = ", ".join(repr(key) for key, _ in _fields(raw)) or "none by name"
    raise UnsupportedModelError(
        f"model: {name} returned {type(raw).__name__} (entries: {named}); accepted is a Tensor, a "
        "tuple or list of some, or a dict, named tuple or object with 'logits'. "
        "Give a loss of the whole output, for instance "
        "loss=lambda output, y: F.mse_loss(output.mean, y), or wrap the model in a module that "
        "returns the tensor for the loss."
    )


def tensors_without_names(raw: Any) -> list[tuple[tuple[Any, ...], Tensor]]:
    """The floating tensors in a tuple or list, each with its place, level by level."""
    if _fields(raw) or not isinstance(raw, (tuple, list)):
        return []
    return list(_floats(raw, ()))


def _floats(raw: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(raw, Tensor):
        if raw.is_floating_point() and raw.ndim:
            yield place, raw
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from _floats(value, (*place, key))
    elif isinstance(raw, (tuple, list)):
        for i, value in enumerate(raw):
            yield from _floats(value, (*place, i))


def says_shapes(raw: Any) -> str:
    """A tuple's tensors in words."""
    shapes = [tuple(tensor.shape) for _, tensor in tensors_without_names(raw)]
    return f"a {type(raw).__name__} of tensors of shape {', '.join(map(str, shapes))}"


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


def takes_all(loss: CustomLoss, raw: Any, targets: Any, name: str) -> bool:
    """Whether a function as loss takes all outputs of a module, as its training did.

    The loss is called with the whole output of a few examples. If it can take that, it always gets
    the whole.

    Parameters
    ----------
    loss : CustomLoss
        Its ``outputs_packing`` is set if it does.
    raw : object
        What the module returned for some examples.
    targets : Tensor
        Their targets.
    name : str
        The module's name, for errors.

    Returns
    -------
    bool

    Raises
    ------
    UnsupportedModelError
        If it does not, and there is no single output for it.
    """
    try:
        with torch.no_grad():
            value = loss.function(raw, loss.targets_of(targets, _dtype(raw)))
    except UnsupportedModelError:
        raise
    except _NOT_TAKEN as error:
        if "logits" in dict(_fields(raw)) or tensors_without_names(raw):
            return False
        raise UnsupportedModelError(
            f"loss: it cannot take what {name} returns, a {type(raw).__name__}: {error}"
        ) from error
    if isinstance(value, Tensor):
        loss.outputs_packing = pack(raw, f"model: {name}")[1]
    return isinstance(value, Tensor)
