"""Many copies of one fitted model, forwarded together or one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from influencekit.models import Task
from influencekit.models._module import copy_module
from influencekit.training._randomness import RandomStream
from influencekit.training.further._dropout import SharedDropout

__all__ = ["ModelStack", "Parameters"]

Parameters = dict[str, Tensor]  # each of shape (n_runs, ...)


class ModelStack:
    """A task's module with other parameters in it, those of many runs at once.

    Dropout is active in training.  Normalisation layers with running statistics stay as the
    fitted model has them: in training mode they would make every loss depend on the other rows
    of its batch, so that a row could not be taken out of it.

    Parameters
    ----------
    task : Task
        Its module is copied.
    together : bool, default=True
        False forwards one run after the other: for modules that vmap cannot look into.
    """

    def __init__(self, task: Task, together: bool = True):
        self.task = task
        self.together = together
        self.module = copy_module(task.module)
        self.names = tuple(task.parameters)

    def initial(self, n_runs: int) -> Parameters:
        """Parameters of ``n_runs`` copies of the fitted model, ready to be trained."""
        return {
            name: p.detach().expand(n_runs, *p.shape).clone().requires_grad_(True)
            for name, p in self.task.parameters.items()
        }

    def load(self, parameters: Parameters, run: int) -> nn.Module:
        """Copy of the module, in eval mode, with one run's parameters."""
        module = copy_module(self.task.module)
        with torch.no_grad():
            for name, own in module.named_parameters():
                if name in parameters:
                    own.copy_(parameters[name][run])
        return module

    def train_mode(self) -> None:
        """Dropout on, running statistics frozen."""
        self.module.train()
        for part in self.module.modules():
            if isinstance(part, nn.modules.batchnorm._NormBase):
                part.eval()

    def outputs(
        self, parameters: Parameters, inputs: Any, shared: bool, stream: RandomStream | None = None
    ) -> Tensor:
        """Natural outputs (n_runs, batch, ...) of every run.

        Parameters
        ----------
        parameters : dict of str to Tensor of shape (n_runs, ...)
        inputs : Tensor, tuple or dict of Tensors
            Of shape (batch, ...) if ``shared``, else (n_runs, batch, ...).
        shared : bool
            Whether all runs look at the same inputs.
        stream : RandomStream, default=None
            Of dropout; every run sees what it holds, and it is advanced once.

        Returns
        -------
        Tensor
        """
        forward = self._together if self.together else self._in_turn
        raw = forward(parameters, inputs, shared, stream)
        flat = raw.flatten(0, 1)
        flat = flat if self.task.link is None else self.task.link(flat)
        flat = flat[:, None] if flat.ndim == 1 else flat
        return flat.unflatten(0, raw.shape[:2])

    def _one(self, parameters: Parameters, inputs: Any) -> Tensor:
        args, kwargs = _call_arguments(inputs)
        raw = functional_call(self.module, parameters, args, kwargs)
        if isinstance(raw, Mapping):  # of a model of the transformers library
            raw = raw.get("logits", raw)
        return raw[0] if isinstance(raw, (tuple, list)) else raw

    def _together(self, parameters, inputs, shared, stream) -> Tensor:
        mapped = vmap(self._one, in_dims=(0, None if shared else 0), randomness="error")
        if stream is None:
            return mapped(parameters, inputs)
        with SharedDropout(stream):
            return mapped(parameters, inputs)

    def _in_turn(self, parameters, inputs, shared, stream) -> Tensor:
        n_runs = len(next(iter(parameters.values())))
        outputs = []
        for run in range(n_runs):
            if stream is not None:
                stream.restore()
            own = {name: p[run] for name, p in parameters.items()}
            x = inputs if shared else tree_map(lambda t, run=run: t[run], inputs)
            outputs.append(self._one(own, x))
        if stream is not None:
            stream.advance()
        return torch.stack(outputs)

    def losses(self, outputs: Tensor, targets: Tensor, shared: bool) -> Tensor:
        """Loss (n_runs, batch) of every run on every row."""
        return self.per_row(self.task.loss, outputs, targets, shared)

    @staticmethod
    def per_row(function: Any, outputs: Tensor, targets: Tensor | None, shared: bool) -> Tensor:
        """Apply a function of (outputs, targets) -> (n,) to all rows of all runs."""
        if targets is not None:
            if shared:
                targets = targets.expand(len(outputs), *targets.shape)
            targets = targets.flatten(0, 1)
        return function(outputs.flatten(0, 1), targets).unflatten(0, outputs.shape[:2])


def _call_arguments(inputs: Any) -> tuple[tuple, dict]:
    if isinstance(inputs, dict):
        return (), inputs
    return (tuple(inputs), {}) if isinstance(inputs, (tuple, list)) else ((inputs,), {})
