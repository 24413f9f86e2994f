"""Many copies of one fitted model, forwarded together or one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.models import Task
from influencekit.models._module import copy_module
from influencekit.training._randomness import RandomStream
from influencekit.training.stack._forward import call_all, call_in_turn
from influencekit.utils._torch import simple_kernels

__all__ = ["Parameters", "TaskStack"]

Parameters = dict[str, Tensor]  # each of shape (n_runs, ...)


class TaskStack:
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
        self.own = replace(task, module=copy_module(task.module))

    @property
    def module(self) -> nn.Module:
        """The copy of the module that all runs go through."""
        return self.own.module

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
        call = call_all if self.together else call_in_turn
        with simple_kernels():  # no nested tensors, no switch that another thread has turned
            return call(lambda own, x: self.own.forward(x, own), parameters, inputs, stream, shared)

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
