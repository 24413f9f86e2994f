"""One training step of a whole stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skorch.utils import to_device
from torch import Tensor
from torch.func import functional_call, vmap
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from influencekit.training._dropout import StackedDropout
from influencekit.training._schedule import Group
from influencekit.training._stack import Stack

__all__ = ["Data", "StackedStep", "collate_all", "stacked_losses", "stacked_optimizer"]

Data = tuple[Any, Any]


def collate_all(net: Any, X: Any, y: Any) -> Data:
    """All rows as one batch, as the net's dataset and iterator would collate them."""
    dataset = net.get_dataset(X, y)
    collate = net.get_iterator(dataset, training=True).collate_fn
    return to_device(collate([dataset[i] for i in range(len(dataset))]), net.device)


def stacked_optimizer(stack: Stack) -> Optimizer:
    """The template's optimiser, with all its groups and options, on the stacked parameters."""
    own = stack.net.optimizer_
    names = {id(p): name for name, p in stack.loss.named_parameters()}
    groups = []
    for group in own.param_groups:
        options = {key: value for key, value in group.items() if key not in _NOT_OPTIONS}
        parameters = [stack.parameters[names[id(p)]] for p in group["params"]]
        groups.append({"params": parameters, **options})
    return type(own)(groups)


_NOT_OPTIONS = ("params", "param_names")


def stacked_losses(
    stack: Stack, parameters: dict, buffers: dict, streams: Sequence, batch: Data
) -> tuple[Tensor, dict[str, Tensor]]:
    """Training loss (m,) of m models on their batches, and their buffers afterwards."""

    def one(parameters, buffers, inputs, targets):
        tensors = {**parameters, **buffers, **stack.shared}
        loss = functional_call(stack.loss, tensors, (inputs, targets))
        # functional_call writes buffers that the forward replaced back into its dictionary
        return loss, {name: tensors[name] for name in buffers}

    with StackedDropout(streams):
        return vmap(one, randomness="error")(parameters, buffers, *batch)


class StackedStep:
    """Moves every model of a stack by one step of its optimiser.

    Parameters
    ----------
    stack : Stack
        Changed in place.
    data : (inputs, targets)
        All rows, on the models' device.
    """

    def __init__(self, stack: Stack, data: Data):
        self.stack = stack
        self.data = data
        self.optimizer = stacked_optimizer(stack)
        stack.net._set_training(True)

    def __call__(self, groups: Sequence[Group]) -> None:
        """Take one step; the groups hold every model of the stack once."""
        self.optimizer.zero_grad(set_to_none=True)
        for group in groups:
            batch = tree_map(lambda t, rows=group.rows: t[rows.to(t.device)], self.data)
            if group.models is None:
                self._whole(batch)
            else:
                self._part(group.models, batch)
        self.optimizer.step()

    def _whole(self, batch: Data) -> None:
        stack = self.stack
        losses, buffers = stacked_losses(
            stack, stack.parameters, stack.buffers, stack.streams, batch
        )
        losses.sum().backward()
        stack.buffers = {name: b.detach() for name, b in buffers.items()}

    def _part(self, models: Tensor, batch: Data) -> None:
        stack = self.stack
        own = {
            name: p.detach()[models].requires_grad_(p.requires_grad)
            for name, p in stack.parameters.items()
        }
        streams = [stack.streams[m] for m in models.tolist()]
        buffers = {name: b[models] for name, b in stack.buffers.items()}
        losses, buffers = stacked_losses(stack, own, buffers, streams, batch)
        losses.sum().backward()
        for name, p in stack.parameters.items():
            if own[name].grad is not None:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                p.grad[models] = own[name].grad
        for name, after in buffers.items():
            stack.buffers[name][models] = after.detach()
