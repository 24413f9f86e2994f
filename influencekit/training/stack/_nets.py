"""Many copies of one skorch net: parameters, buffers and random streams stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from skorch.utils import to_device
from torch import Tensor, nn

from influencekit.models._call import functional_call
from influencekit.training._randomness import RandomStream, seeded
from influencekit.training.estimator._recipe import fresh_copy
from influencekit.training.stack._forward import call_all
from influencekit.utils._torch import TrueDerivatives
from influencekit.utils.validation import present

__all__ = ["Data", "NetStack", "collate_all", "initial_stack"]

Data = tuple[Any, Any]  # inputs and targets


class NetLoss(nn.Module):
    """A net's training loss as one module: its own ``infer`` and ``get_loss``.

    Parameters
    ----------
    net : NeuralNet
        An initialized net. Its modules and criteria become children, so that
        :func:`functional_call` can replace their tensors.
    """

    def __init__(self, net: NeuralNet):
        super().__init__()
        self.net = net
        for name in [*net._modules, *net._criteria]:  # noqa: SLF001  skorch has no other name
            part = getattr(net, name + "_")
            if isinstance(part, nn.Module):
                self.add_module(name, part)

    def forward(self, inputs: Any, targets: Any) -> Tensor:
        """Loss of one batch, a scalar."""
        predicted = self.net.infer(inputs)
        return self.net.get_loss(predicted, targets, X=inputs, training=True)


@dataclass
class NetStack:
    """State of M models in training.

    Parameters
    ----------
    loss : NetLoss
        Template; its own tensors are never trained.
    parameters : dict of str to Tensor of shape (M, ...)
    buffers : dict of str to Tensor of shape (M, ...)
    shared : dict of str to Tensor
        Buffers of the criterion (class weights), the same for all models.
    streams : list of RandomStream
    """

    loss: NetLoss
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    shared: dict[str, Tensor]
    streams: list[RandomStream]

    @property
    def n_models(self) -> int:
        """M."""
        return len(self.streams)

    @property
    def net(self) -> NeuralNet:
        """The template's net."""
        return self.loss.net

    def losses(
        self, parameters: dict, buffers: dict, streams: Sequence[RandomStream], batch: Data
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss (m,) of m models on their batches, and their buffers afterwards."""

        def one(tensors: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            tensors = {**tensors[0], **tensors[1], **self.shared}
            with TrueDerivatives():  # vmap gives the row of padding a gradient
                loss = functional_call(self.loss, tensors, tuple(batch))
            # functional_call writes buffers that the forward replaced back into its dictionary
            return loss, {name: tensors[name] for name in buffers}

        return call_all(one, (parameters, buffers), batch, streams)

    def load(self, model: int, target: nn.Module) -> None:
        """Copy one model's tensors into a module with the same names as the net's own."""
        tensors = {**self.parameters, **self.buffers}
        with torch.no_grad():
            for name, own in _named_tensors(target).items():
                own.copy_(tensors[f"module.{name}"][model])

    def can_load(self, target: nn.Module) -> bool:
        """Whether :meth:`load` knows every tensor of a module."""
        tensors = {**self.parameters, **self.buffers}
        return all(
            f"module.{name}" in tensors and tensors[f"module.{name}"].shape[1:] == own.shape
            for name, own in _named_tensors(target).items()
        )


def collate_all(net: Any, X: Any, y: Any) -> Data:
    """All rows as one batch, as the net's dataset and iterator would collate them."""
    dataset = net.get_dataset(X, y)
    collate = net.get_iterator(dataset, training=True).collate_fn
    return to_device(collate([dataset[i] for i in range(len(dataset))]), net.device)


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def initial_stack(estimator: NeuralNet, seeds: Sequence[int]) -> NetStack:
    """Initialize one net after the other, each under its own seed, and stack them.

    Parameters
    ----------
    estimator : NeuralNet
        Cloned, never changed.
    seeds : sequence of int
        One seed for each model.

    Returns
    -------
    NetStack
        Every model is in the state after ``torch.manual_seed(seed); net.initialize()``.
    """
    device = estimator.device or "cpu"
    parts, streams, template = [], [], None
    for seed in seeds:
        with seeded(int(seed), device):
            loss = NetLoss(fresh_copy(estimator, int(seed)).initialize())
            streams.append(RandomStream.capture(device))
        template = template or loss
        parts.append((dict(loss.named_parameters()), dict(loss.named_buffers())))
    template = present(template, "first model")
    parameters = {
        name: _stacked([p[name] for p, _ in parts]).requires_grad_(example.requires_grad)
        for name, example in parts[0][0].items()
    }
    stacked = {name: _stacked([b[name] for _, b in parts]) for name in parts[0][1]}
    shared = {name: t[0] for name, t in stacked.items() if _is_shared(name, t, template.net)}
    buffers = {name: t for name, t in stacked.items() if name not in shared}
    return NetStack(template, parameters, buffers, shared, streams)


def _stacked(tensors: list[Tensor]) -> Tensor:
    return torch.stack([t.detach() for t in tensors])


def _is_shared(name: str, stacked: Tensor, net: NeuralNet) -> bool:
    """A criterion's buffer that is the same in every model."""
    return name.split(".")[0] in net._criteria and bool((stacked == stacked[:1]).all())  # noqa: SLF001  skorch has no other name
