"""Many copies of one fitted model: run at once or one by one, and evaluated at queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from influencekit.data._examples import Examples, make_examples
from influencekit.data._sources import Batch
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._estimator_outputs import asked_as_it_is, estimator_outputs
from influencekit.models._module import copy_module
from influencekit.models._outputs import predicted_targets, resolve_output
from influencekit.models._task import Task
from influencekit.models.trees._task import predicting_task
from influencekit.training._randomness import RandomStream
from influencekit.training.stack._forward import call_all, call_in_turn
from influencekit.utils._torch import simple_kernels

__all__ = ["Evaluation", "Parameters", "TaskStack", "model_outputs", "task_outputs"]


Parameters = dict[str, Tensor]  # each of shape (n_runs, ...)


class TaskStack:
    """A task's module with the parameters of many runs.

    Dropout is active in training. Normalization layers with running statistics keep those of the
    fitted model: in training mode, every loss would depend on the other rows of its batch, so that
    a row could not be removed from it.

    Parameters
    ----------
    task : Task
        Its module is copied.
    together : bool, default=True
        False runs the models one after the other, for modules that vmap cannot transform.
    """

    def __init__(self, task: Task, together: bool = True):
        self.task = task
        self.together = together
        self.own = replace(task, module=copy_module(task.module))

    @property
    def module(self) -> nn.Module:
        """The copy of the module used by all runs."""
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
            if isinstance(part, nn.modules.batchnorm._NormBase):  # noqa: SLF001  torch has no other name
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
            Whether all runs get the same inputs.
        stream : RandomStream, default=None
            Stream for dropout; every run gets the same noise, and it is advanced once.

        Returns
        -------
        Tensor
        """
        call = call_all if self.together else call_in_turn
        with simple_kernels():  # no nested tensors, no switch changed by another thread
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


BATCH_SIZE = 1024


def model_outputs(model: Any, X_query: Any, y_query: Any, output: Any) -> np.ndarray:
    """Outputs of a fitted model at the queries.

    Parameters
    ----------
    model : fitted model
        Anything that :func:`~influencekit.models.as_task` takes, or an estimator that predicts.
    X_query, y_query : array-like
    output : str or callable

    Returns
    -------
    ndarray of shape (n_query,), float64
    """
    if asked_as_it_is(model, output):
        return estimator_outputs(model, X_query, y_query, output)
    try:
        task = predicting_task(model)
    except UnsupportedModelError:  # its objective, which nobody asks for here, cannot be carried
        if callable(output) or not hasattr(model, "predict"):
            raise
        return estimator_outputs(model, X_query, y_query, output)
    examples = make_examples(task, X_query, y_query, require_y=False, name="X_query")
    return task_outputs(task, examples, output)


def task_outputs(task: Task, examples: Any, output: Any) -> np.ndarray:
    """Outputs of a task at ready-made examples, (n_query,) float64.

    NaN if the model's natural outputs are not finite, whatever the function returns for them.
    """
    function = resolve_output(task, output, has_targets=examples.targets is not None)
    parts = []
    with torch.no_grad():
        for batch in examples.batches(BATCH_SIZE):
            outputs = task.forward(batch.inputs)
            values = function(outputs, batch.targets).detach().double()
            parts.append(values.masked_fill(unanswered(outputs), torch.nan).cpu())
    return torch.cat(parts).numpy()


def unanswered(outputs: Tensor) -> Tensor:
    """Examples at which a model's natural outputs are not finite, (n,) bool.

    Minus infinity for some classes is valid, because their probability is 0. But at least one
    output must be finite, and none NaN or plus infinity. The explained output may hide this: the
    position of the largest of several NaN is a number.

    Parameters
    ----------
    outputs : Tensor of shape (n, ..., n_outputs)
    """
    largest = outputs.detach().amax(-1)  # NaN if any is NaN
    return ~torch.isfinite(largest).reshape(len(outputs), -1).all(dim=1)


class Evaluation:
    """The explained output of many runs at all test examples.

    It is evaluated in float64 for any dtype of training, so that small differences between runs are
    not rounded away; in the model's dtype if its forward does not support float64.

    Parameters
    ----------
    task : Task
    queries : Examples
        Queries, read once. Without targets, the fitted model's own predictions are explained.
    output : str or callable
    together : bool
        Whether runs are computed together.
    batch_size : int
        Number of test examples at once.

    Attributes
    ----------
    dtype : torch.dtype
        dtype of the evaluation.
    n_queries : int
    """

    def __init__(self, task: Task, queries: Examples, output: Any, together: bool, batch_size: int):
        self.n_queries = len(queries)
        self.output = resolve_output(task, output, queries.targets is not None)
        if queries.targets is None:
            queries = queries.with_targets(_own_predictions(task, queries, batch_size))
        self.batches = list(queries.batches(batch_size))
        self.stack = TaskStack(task, together)
        self.dtype = task.input_dtype
        if task.input_dtype != torch.float64:
            self._widen()

    def __call__(self, parameters: Parameters) -> np.ndarray:
        """Output of every run at every test example.

        Parameters
        ----------
        parameters : dict of str to Tensor of shape (n_runs, ...)

        Returns
        -------
        ndarray of shape (n_runs, n_queries), float64
            Outputs; NaN if a model's natural outputs are not finite.
        """
        parameters = {name: p.to(self.dtype) for name, p in parameters.items()}
        with torch.no_grad():
            parts = [self._values(parameters, batch) for batch in self.batches]
        return torch.cat(parts, dim=1).double().cpu().numpy()

    def at_start(self) -> np.ndarray:
        """Output (n_queries,) of the fitted model itself."""
        with torch.no_grad():
            return self({name: p.detach() for name, p in self.stack.initial(1).items()})[0]

    def _values(self, parameters: Parameters, batch: Batch) -> Tensor:
        outputs = self.stack.outputs(parameters, batch.inputs, shared=True)
        values = self.stack.per_row(self.output, outputs, batch.targets, shared=True).detach()
        unknown = unanswered(outputs.flatten(0, 1)).unflatten(0, outputs.shape[:2])
        return torch.where(unknown, torch.full_like(values, torch.nan), values)

    def _widen(self) -> None:
        """Switch to float64 if the model's forward supports it."""
        plain = self.stack, self.batches, self.dtype
        wide = TaskStack(self.stack.task, self.stack.together)
        try:
            wide.module.double()
            batches = [Batch(_double(b.inputs), _double(b.targets), b.rows) for b in self.batches]
            self.stack, self.batches, self.dtype = wide, batches, torch.float64
            first = {name: p.detach().double() for name, p in wide.initial(1).items()}
            with torch.no_grad():
                values = self._values(first, batches[0])
            if values.dtype != torch.float64:
                raise TypeError("the model has a fixed dtype")
        except (RuntimeError, TypeError, ValueError):
            self.stack, self.batches, self.dtype = plain


def _own_predictions(task: Task, queries: Examples, batch_size: int) -> Tensor:
    with torch.no_grad():
        parts = [
            predicted_targets(task, task.forward(b.inputs)) for b in queries.batches(batch_size)
        ]
    return torch.cat(parts)


def _double(tree: Any) -> Any:
    """Floating tensors in float64."""
    return tree_map(
        lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, tree
    )
