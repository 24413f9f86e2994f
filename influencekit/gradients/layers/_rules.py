"""Layers with factored or closed-form per-example gradients, and how to compute them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from influencekit.gradients.layers._convolutions import (
    conv_inputs,
    conv_outputs,
    conv_products,
    grouped_conv,
    transposed_conv,
    unfold,
)
from influencekit.utils._torch import MODULE_LOCK

__all__ = ["RULES", "LayerRule", "own_parameters", "rule_for"]


@dataclass(frozen=True)
class LayerRule:
    """How one type of layer turns its input x and output gradients g into factors.

    Parameters
    ----------
    inputs : callable
        ``(module, x (n, ...)) -> (n, T, d_in)``, or (n, T) integers for an embedding, or
        whatever ``dense`` takes.
    outputs : callable
        ``(module, g (n, R, ...), inputs) -> (n, R, T, d_out)``.
    dense : callable or None
        ``(module, inputs, g (n, R, ...)) -> (weight (n, R, w), bias (n, R, d_out))`` for layers
        without factors; None for layers with factors.
    fill : callable or None
        ``(inputs, g (n, R, ..., d_out), out (n, R, w))`` writes what ``dense`` gives as weight to a
        tensor that is there; the bias is a sum of g over all but its last dimension.
    accepts : callable
        ``(module) -> bool``: False sends the layer to the fallback.
    products : callable or None
        ``(module, x (n, ...), g (n, R, ...)) -> weight (n, R, w)``: the factors of a layer that has
        them multiplied out, where that is faster than by factors.
    """

    inputs: Callable
    outputs: Callable | None = None
    dense: Callable | None = None
    fill: Callable | None = None
    accepts: Callable = lambda _module: True
    products: Callable | None = None


def rule_for(module: nn.Module) -> LayerRule | None:
    """The rule of a module, or None if it needs general differentiation.

    Subclasses count if they keep the layer's ``forward``; modules with further parameters
    (parametrizations, weight norm) do not.  Two kinds of layers are recognized only by their shape,
    from any library: a scale (and shift) of the last dimension, such as a library's own RMSNorm,
    and the transposed linear layer of GPT-2. Discovery uses a rule only if its gradients equal
    those of automatic differentiation.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return None  # its calls cannot be watched
    for kind, rule in RULES.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            if rule is _CONV and getattr(module, "groups", 1) > 1:
                rule = _GROUPED_CONV
            return rule if _is_plain(module) and rule.accepts(module) else None
    if not _is_plain(module) or not _takes_one_tensor(module):
        return None
    if module.weight.ndim == 1:
        return _SCALE
    return _TRANSPOSED if type(module).__name__ == "Conv1D" else None


def _is_plain(module: nn.Module) -> bool:
    known = set(module._parameters) <= {"weight", "bias"}  # noqa: SLF001  a name without a tensor counts
    return known and module._parameters.get("weight") is not None and not list(module.children())  # noqa: SLF001  a name without a tensor counts


def own_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters of a module, not of its children; a parameter with two names appears twice."""
    return module.named_parameters(recurse=False, remove_duplicate=False)


def _takes_one_tensor(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return len(parameters) == 1 and next(iter(parameters)).kind is not inspect.Parameter.VAR_KEYWORD


# -- linear -----------------------------------------------------------------------------------


def _linear_inputs(_module: nn.Linear, x: Tensor) -> Tensor:
    return x.reshape(len(x), -1, x.shape[-1])


def _linear_outputs(_module: nn.Module, g: Tensor, _inputs: Tensor) -> Tensor:
    return g.reshape(*g.shape[:2], -1, g.shape[-1])


def _bilinear_inputs(module: nn.Bilinear, x: Tensor) -> Tensor:
    """Products of both inputs, which stand side by side."""
    first, second = x.split([module.in1_features, module.in2_features], -1)
    products = first[..., :, None] * second[..., None, :]
    return products.reshape(len(x), -1, first.shape[-1] * second.shape[-1])


# -- embeddings -------------------------------------------------------------------------------


def _index(_module: nn.Module, x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).contiguous()


def _index_outputs(module: nn.Embedding, g: Tensor, inputs: Tensor) -> Tensor:
    g = g.reshape(*g.shape[:2], -1, g.shape[-1])
    if module.padding_idx is None:
        return g
    return g.masked_fill((inputs == module.padding_idx)[:, None, :, None], 0)


def _plain_embedding(module: nn.Embedding | nn.EmbeddingBag) -> bool:
    return module.max_norm is None and not (module.sparse or module.scale_grad_by_freq)


def _bag_outputs(module: nn.EmbeddingBag, g: Tensor, inputs: Tensor) -> Tensor:
    used = torch.ones_like(inputs, dtype=g.dtype)
    if module.padding_idx is not None:
        used = (inputs != module.padding_idx).to(g.dtype)
    if module.mode == "mean":
        used = used / used.sum(1, keepdim=True).clamp_min(1)
    return g[:, :, None] * used[:, None, :, None]


def _plain_bag(module: nn.EmbeddingBag) -> bool:
    return module.mode in ("sum", "mean") and _plain_embedding(module)


# -- normalization: the input is standardized once, the rest is a product and a sum -----------


def _affine_last(
    module: nn.LayerNorm | nn.RMSNorm, standard: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """Affine parameters over the last dimensions (LayerNorm, RMSNorm)."""
    kept = len(module.normalized_shape)
    middle = tuple(range(2, g.ndim - kept))
    weight = _times(g, standard)
    if middle:
        weight, g = weight.sum(middle), g.sum(middle)
    return weight.flatten(2), g.flatten(2)


def _affine_channels(_module: nn.Module, standard: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Affine parameters over channels (GroupNorm, BatchNorm): dimension 1 of the input."""
    return _times(g, standard).flatten(3).sum(3), g.flatten(3).sum(3)


def _affine_vector(_module: nn.Module, standard: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    return _times(g, standard), g


def _times(g: Tensor, standard: Tensor) -> Tensor:
    """Products (n, R, ...), in the memory of the standardized input, which nothing else uses."""
    return standard.mul_(g[:, 0])[:, None] if g.shape[1] == 1 else g * standard[:, None]


def _layer_norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, module.normalized_shape, eps=module.eps)


def _rms_norm(module: nn.RMSNorm, x: Tensor) -> Tensor:
    return F.rms_norm(x, module.normalized_shape, eps=module.eps)


def _group_norm(module: nn.GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x, module.num_groups, eps=module.eps)


_AnyBatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def _batch_norm(module: _AnyBatchNorm, x: Tensor) -> Tensor:
    return F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)


def _has_statistics(module: _AnyBatchNorm) -> bool:
    return module.running_mean is not None and not module.training


def _channels(module: nn.Module, standard: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    rule = _affine_vector if g.ndim == 3 else _affine_channels
    return rule(module, standard, g)


# -- slopes of PReLU --------------------------------------------------------------------------


def _slopes(module: nn.PReLU, negative: Tensor, g: Tensor) -> tuple[Tensor, None]:
    products = g * negative[:, None]
    if module.weight.numel() == 1:
        return products.flatten(2).sum(2, keepdim=True), None
    return (products.flatten(3).sum(3) if products.ndim > 3 else products), None


# -- layers of other libraries ----------------------------------------------------------------


def _scaled(module: nn.Module, x: Tensor) -> Tensor:
    """What the weight multiplies in a layer that is affine in its weight."""
    weight: Any = module.weight  # torch types it as Tensor | Module
    names = [name for name, _ in own_parameters(module)]
    with MODULE_LOCK, torch.no_grad():
        one, zero = (
            torch.func.functional_call(
                module, {name: torch.full_like(weight, value) for name in names}, (x,)
            )
            for value in (1.0, 0.0)
        )
    shift = 1.0 if "bias" in names else 0.0
    return one - zero - shift


def _affine_features(_module: nn.Module, scaled: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    middle = tuple(range(2, g.ndim - 1))
    weight = g * scaled[:, None]
    return (weight.sum(middle), g.sum(middle)) if middle else (weight, g)


def _transposed_linear(module: nn.Module, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    weight = g.new_empty(*g.shape[:2], x.shape[-1] * g.shape[-1])
    _fill_transposed(x, g, weight)
    return weight, _linear_outputs(module, g, x).sum(2)


def _fill_transposed(x: Tensor, g: Tensor, out: Tensor) -> None:
    x, g = x.reshape(len(x), -1, x.shape[-1]), g.reshape(*g.shape[:2], -1, g.shape[-1])
    for r in range(g.shape[1]):
        # Σ_t x_t g_tᵀ, in place
        torch.bmm(x.mT, g[:, r], out=out[:, r].unflatten(1, (x.shape[-1], g.shape[-1])))


_SCALE = LayerRule(_scaled, dense=_affine_features)
_TRANSPOSED = LayerRule(lambda _module, x: x, dense=_transposed_linear, fill=_fill_transposed)
_BATCH_NORM = LayerRule(_batch_norm, dense=_channels, accepts=_has_statistics)
_CONV = LayerRule(conv_inputs, conv_outputs, products=conv_products)
_GROUPED_CONV = LayerRule(unfold, dense=grouped_conv)
_TRANSPOSED_CONV = LayerRule(
    lambda _module, x: x, dense=transposed_conv, accepts=lambda module: module.groups == 1
)

RULES: dict[type[nn.Module], LayerRule] = {
    nn.Linear: LayerRule(_linear_inputs, _linear_outputs),
    nn.Bilinear: LayerRule(_bilinear_inputs, _linear_outputs),
    nn.Embedding: LayerRule(_index, _index_outputs, accepts=_plain_embedding),
    nn.LayerNorm: LayerRule(_layer_norm, dense=_affine_last),
    nn.RMSNorm: LayerRule(_rms_norm, dense=_affine_last),
    nn.GroupNorm: LayerRule(_group_norm, dense=_channels),
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.BatchNorm3d: _BATCH_NORM,
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.Conv3d: _CONV,
    nn.ConvTranspose1d: _TRANSPOSED_CONV,
    nn.ConvTranspose2d: _TRANSPOSED_CONV,
    nn.ConvTranspose3d: _TRANSPOSED_CONV,
    nn.EmbeddingBag: LayerRule(_index, _bag_outputs, accepts=_plain_bag),
    nn.PReLU: LayerRule(lambda _module, x: x.clamp_max(0), dense=_slopes),
}
