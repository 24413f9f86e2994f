"""Own copies of modules, and modules made from arrays."""

from __future__ import annotations

import copy
import threading

import numpy as np
import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError

__all__ = ["copy_module", "duplicate", "like_parameters", "linear_layer", "linear_module"]

#: A module's hooks, its parameters under functional_call, torch's kernel switches and its levels of
#: forward-mode derivatives are shared by all threads: whoever runs a model, copies it or changes
#: them holds this lock.
MODULE_LOCK = threading.RLock()


def copy_module(module: nn.Module) -> nn.Module:
    """Deep copy of a module in eval mode; the original is left untouched.

    Forward hooks go with the copy, since they may be part of the computation (weight
    normalisation).  Hooks on gradients do not.

    Parameters
    ----------
    module : torch.nn.Module
        Wrappers of torch.compile and of DataParallel are taken off.

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
        part._backward_hooks.clear()
        part._backward_pre_hooks.clear()
    twin.eval()
    _check_layers(twin)
    return twin


def duplicate(module: nn.Module) -> nn.Module:
    """Deep copy of a module as it is, of ordinary tensors, while no thread runs it.

    A copy that is made inside a forward pass of another thread would take along its hooks and
    the tensors that stand in for parameters there.
    """
    with MODULE_LOCK, torch.inference_mode(False):
        return copy.deepcopy(module, _computed_tensors(module))


def like_parameters(value: Tensor | None, module: nn.Module) -> Tensor | None:
    """A tensor on the device and in the dtype of a module's trainable parameters."""
    if value is None:
        return None
    first = next(p for p in module.parameters() if p.requires_grad)
    return value.to(device=first.device, dtype=first.dtype)


def linear_layer(weight: np.ndarray, bias: np.ndarray | None) -> nn.Linear:
    """A linear layer with the given weight (k, p) and bias (k,), in their own dtype.

    No random number is drawn.
    """
    weight = np.array(weight)
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(torch.from_numpy(weight))
    if bias is not None:
        layer.bias = nn.Parameter(torch.from_numpy(np.array(bias, dtype=weight.dtype)))
    return layer


def linear_module(coef, intercept, fit_intercept: bool) -> nn.Sequential:
    """Module of one linear layer named "linear" from scikit-learn's coef_ and intercept_.

    Parameters
    ----------
    coef : ndarray or sparse matrix of shape (p,) or (k, p)
    intercept : float or ndarray of shape (k,)
    fit_intercept : bool
        False: no bias parameter.

    Returns
    -------
    torch.nn.Sequential
        Its parameters are ``linear.weight`` and ``linear.bias``, in float64.
    """
    coef = coef.toarray() if hasattr(coef, "toarray") else np.asarray(coef)
    weight = np.atleast_2d(coef).astype(np.float64)
    bias = None
    if fit_intercept:
        bias = np.broadcast_to(np.asarray(intercept).reshape(-1), (weight.shape[0],))
    module = nn.Sequential()
    module.add_module("linear", linear_layer(weight, bias))
    return module.eval()


def _unwrap(module: nn.Module) -> nn.Module:
    module = getattr(module, "_orig_mod", module)
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return _unwrap(module.module) if isinstance(module, wrappers) else module


def _computed_tensors(module: nn.Module) -> dict[int, Tensor]:
    """Memo for deepcopy: tensors kept by hooks of old-style weight_norm have a graph."""
    memo = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return memo


def _check_parameters(module: nn.Module) -> None:
    name = type(module).__name__
    for key, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise UnsupportedModelError(
                f"model: the parameter {key!r} of {name} has no shape yet. "
                "Run a batch through the module, and train it, first."
            )
    if not any(p.requires_grad for p in module.parameters()):
        raise UnsupportedModelError(
            f"model: {name} has no trainable parameter (requires_grad=True), so no training "
            "example could have moved it. Unfreeze the layers that were trained: "
            "layer.requires_grad_(True)."
        )


def _check_layers(module: nn.Module) -> None:
    for name, part in module.named_modules():
        norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if norm and part.running_mean is None:
            raise UnsupportedModelError(
                f"model: the layer {name!r} is a {type(part).__name__} without running "
                "statistics, so each output depends on the other examples of the batch. "
                "Train it with track_running_stats=True, or use GroupNorm."
            )
