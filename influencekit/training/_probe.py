"""A trial step before a stack is trusted: it must equal a model alone; and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from skorch import NeuralNet
from torch.utils._pytree import tree_leaves, tree_map

from influencekit.training._randomness import untouched
from influencekit.training._stack import Stack, initial_stack
from influencekit.training._step import Data, stacked_losses
from influencekit.utils import count_saved_bytes

__all__ = ["bytes_per_model", "probe_stack"]


def probe_stack(estimator: NeuralNet, data: Data, length: int) -> str | None:
    """Compare a stack of two with the nets alone on one batch.

    Loss, gradients, buffers and random streams must agree.

    Parameters
    ----------
    estimator : NeuralNet
    data : (inputs, targets)
        All rows.
    length : int
        Rows of the batch.

    Returns
    -------
    str or None
        What went wrong, or None.
    """
    stack = initial_stack(estimator, [1, 2])
    stack.net._set_training(True)
    rows = torch.arange(length)
    rows = torch.stack([rows, rows.flip(0)])
    batch = tree_map(lambda t: t[rows.to(t.device)], data)
    with untouched(estimator.device or "cpu"):
        alone = [_alone(estimator, seed, data, r) for seed, r in zip([1, 2], rows, strict=True)]
        try:
            together = _together(stack, batch)
        except Exception as error:  # torch raises whatever an unsupported operation raises
            return f"its forward or loss cannot be vmapped ({_first_line(error)})"
    for model, own in enumerate(alone):
        scale = max(_size(p) for p in own.values() if p is not None and p.is_floating_point())
        for name, value in own.items():
            got = together[name][model]
            if (got is None) != (value is None):
                return f"{name} has a gradient on one side only"
            if value is not None and value.is_sparse:
                return f"{name} is sparse"
            if value is not None and not _close(got, value, scale):
                return f"{name} differs between the stack and a model alone"
    return None


def _alone(estimator: NeuralNet, seed: int, data: Data, rows: torch.Tensor) -> dict:
    stack = initial_stack(estimator, [seed])
    net, loss = stack.net, stack.loss
    net._set_training(True)
    with stack.streams[0].use():
        value = loss(*tree_map(lambda t: t[rows.to(t.device)], data))
        value.backward()
    result = {"the loss": value.detach(), "the random stream": stack.streams[0].cpu}
    result |= {f"the gradient of {n}": p.grad for n, p in loss.named_parameters()}
    return result | {f"buffer {n}": b for n, b in loss.named_buffers() if n in stack.buffers}


def _together(stack: Stack, batch: Data) -> dict:
    losses, buffers = stacked_losses(stack, stack.parameters, stack.buffers, stack.streams, batch)
    losses.sum().backward()
    none = [None] * stack.n_models
    result = {"the loss": losses.detach(), "the random stream": [s.cpu for s in stack.streams]}
    result |= {
        f"the gradient of {n}": none if p.grad is None else p.grad
        for n, p in stack.parameters.items()
    }
    return result | {f"buffer {n}": b for n, b in buffers.items()}


def _close(got: torch.Tensor, value: torch.Tensor, scale: float) -> bool:
    """Equal to rounding, which may leave crumbs of ``scale`` where a gradient is zero."""
    if got.shape != value.shape:
        return False
    if not value.is_floating_point():
        return torch.equal(got, value)
    tolerance = 1e3 * torch.finfo(value.dtype).eps
    return torch.allclose(got, value, rtol=tolerance, atol=tolerance * scale)


def _size(tensor: torch.Tensor) -> float:
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def bytes_per_model(estimator: NeuralNet, data: Data, length: int) -> int:
    """Bytes that a stacked model takes in training: state, activations and batch."""
    stack = initial_stack(estimator, [0])
    batch = tree_map(lambda t: t[:length], data)
    stack.net._set_training(True)
    with untouched(estimator.device or "cpu"), count_saved_bytes() as saved:
        stack.loss(*batch)
    parameters, buffers = (_bytes(list(d.values())) for d in (stack.parameters, stack.buffers))
    return 6 * parameters + 3 * saved.total + 2 * _bytes(batch) + buffers


def _bytes(tree: Sequence) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(tree))
