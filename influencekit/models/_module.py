"""Independent copies of modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.snapshot._rebound import copied
from influencekit.utils._torch import MODULE_LOCK

__all__ = ["copy_module", "duplicate", "like_parameters"]


def copy_module(module: nn.Module) -> nn.Module:
    """Deep copy of a module in eval mode; the original is not changed.

    The copy keeps forward hooks, because they may be part of the computation (weight
    normalization), but not hooks on gradients.

    Parameters
    ----------
    module : torch.nn.Module
        The module; wrappers of torch.compile and DataParallel are removed.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    UnsupportedModelError
        If nothing is trainable, or a layer mixes the examples of a batch.
    """
    module = _unwrap(module)
    with MODULE_LOCK:
        _check_parameters(module)
        twin = duplicate(module)
    for part in twin.modules():
        part._backward_hooks.clear()  # noqa: SLF001  torch has no other name
        part._backward_pre_hooks.clear()  # noqa: SLF001  torch has no other name
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            part.sparse = False  # the same gradient, dense
            part.scale_grad_by_freq = False  # the loss's gradient, whatever an optimizer is given
    twin.train().eval()  # modules that cache what they derive from weights forget it in train()
    _check_layers(twin)
    return twin


def duplicate(module: nn.Module) -> nn.Module:
    """Deep copy of a module with ordinary tensors, made while no thread runs it.

    A copy made during a forward pass of another thread would include its hooks and the tensors that
    replace the parameters there.
    """
    with MODULE_LOCK, torch.inference_mode(False):
        return copied(module)


def like_parameters(value: Tensor | None, module: nn.Module) -> Tensor | None:
    """A tensor on the device and in the dtype of a module's trainable parameters.

    In float32 at least, as losses are.
    """
    if value is None:
        return None
    first = next(p for p in module.parameters() if p.requires_grad)
    dtype = torch.promote_types(first.dtype, torch.float32)
    return value.to(device=first.device, dtype=dtype)


def _unwrap(module: nn.Module) -> nn.Module:
    module = getattr(module, "_orig_mod", module)
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return _unwrap(module.module) if isinstance(module, wrappers) else module


def _check_parameters(module: nn.Module) -> None:
    name = type(module).__name__
    for key, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise UnsupportedModelError(
                f"model: the parameter {key!r} of {name} has no shape yet. "
                "First run a batch through the module, and train it."
            )
        if parameter.is_meta:
            raise UnsupportedModelError(
                f"model: the parameter {key!r} of {name} is on the meta device, without numbers. "
                "Load its weights first: module.to_empty(device='cpu'), then load_state_dict."
            )
        if parameter.requires_grad and parameter.numel() == 0:
            raise UnsupportedModelError(
                f"model: the parameter {key!r} of {name} has shape {tuple(parameter.shape)}, "
                "without any number; accepted are layers with a width above 0. Remove the layer, "
                "or freeze it: requires_grad_(False)."
            )
        if parameter.requires_grad and parameter.is_complex():
            raise UnsupportedModelError(
                f"model: the parameter {key!r} of {name} is complex ({parameter.dtype}); accepted "
                "are real parameters. Hold its real and imaginary parts in one real parameter with "
                "a last axis of 2, and use torch.view_as_complex(parameter) in forward."
            )
    if not any(p.requires_grad for p in module.parameters()):
        raise UnsupportedModelError(
            f"model: {name} has no trainable parameter (requires_grad=True), so no training "
            "example could have moved it. Unfreeze the layers that were trained: "
            "layer.requires_grad_(True)."
        )


def _check_layers(module: nn.Module) -> None:
    for name, part in module.named_modules():
        norm = isinstance(part, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001  torch has no other name
        if norm and part.running_mean is None:
            raise UnsupportedModelError(
                f"model: the layer {name!r} is a {type(part).__name__} without running "
                "statistics, so each output depends on the other examples of the batch. "
                "Train it with track_running_stats=True, or use GroupNorm."
            )
