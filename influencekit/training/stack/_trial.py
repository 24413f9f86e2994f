"""A trial before a stack is trusted: it must equal a separate model. Also memory per model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from influencekit.models._task import Task
from influencekit.training._randomness import RandomStream, untouched
from influencekit.training.stack._nets import Data, initial_stack
from influencekit.training.stack._tasks import TaskStack
from influencekit.utils._torch import count_saved_bytes

__all__ = ["N_ROWS", "bytes_per_net", "bytes_per_run", "why_nets_differ", "why_runs_differ"]

#: Number of examples in a trial of runs.
N_ROWS = 4

#: Values of each model by name; None if a parameter does not have a gradient.
Found = dict[str, Any]


def why_nets_differ(estimator: NeuralNet, data: Data, length: int) -> str | None:
    """Compare a stack of two nets with two separate nets on one batch.

    Loss, gradients, buffers and random streams must agree.

    Parameters
    ----------
    estimator : NeuralNet
    data : (inputs, targets)
        All rows.
    length : int
        Number of rows in the batch.

    Returns
    -------
    str or None
        What went wrong, or None.
    """
    rows = torch.arange(length)
    rows = torch.stack([rows, rows.flip(0)])
    batch = tree_map(lambda t: t[rows.to(t.device)], data)

    def alone() -> Found:
        found = [
            _net_alone(estimator, seed, tree_map(lambda t, model=model: t[model], batch))
            for model, seed in enumerate(_SEEDS)
        ]
        return {name: [own[name] for own in found] for name in found[0]}

    return _difference(alone, partial(_nets_together, estimator, batch), estimator.device or "cpu")


_SEEDS = (1, 2)


def _net_alone(estimator: NeuralNet, seed: int, batch: Data) -> Found:
    stack = initial_stack(estimator, [seed])
    net, loss = stack.net, stack.loss
    net._set_training(True)  # noqa: SLF001  skorch has no other name
    with stack.streams[0].use():
        value = loss(*batch)
        value.backward()
    found = {"the loss": value.detach(), "the random stream": stack.streams[0].cpu}
    found |= {f"the gradient of {n}": p.grad for n, p in loss.named_parameters()}
    return found | {f"buffer {n}": b for n, b in loss.named_buffers() if n in stack.buffers}


def _nets_together(estimator: NeuralNet, batch: Data) -> Found:
    stack = initial_stack(estimator, _SEEDS)
    stack.net._set_training(True)  # noqa: SLF001  skorch has no other name
    losses, buffers = stack.losses(stack.parameters, stack.buffers, stack.streams, batch)
    found = {"the loss": losses.detach(), "the random stream": [s.cpu for s in stack.streams]}
    found |= _gradients(losses, stack.parameters)
    return found | {f"buffer {n}": b for n, b in buffers.items()}


def why_runs_differ(task: Task, inputs: Any, targets: Tensor) -> str | None:
    """Compare two runs together with separate runs: outputs, gradients and random stream.

    Parameters
    ----------
    task : Task
    inputs, targets
        A few training examples.

    Returns
    -------
    str or None
        What went wrong, or None.
    """
    alone = partial(_runs, TaskStack(task, together=False), inputs, targets)
    together = partial(_runs, TaskStack(task), inputs, targets)
    return _difference(alone, together, task.device)


def _runs(stack: TaskStack, inputs: Any, targets: Tensor) -> Found:
    stack.train_mode()
    parameters = stack.initial(2)
    with torch.no_grad():
        for p in parameters.values():
            p[1] *= 0.9  # makes the two different
    torch.manual_seed(0)
    stream = RandomStream.capture(stack.task.device)
    outputs = stack.outputs(parameters, inputs, True, stream)
    losses = stack.losses(outputs, targets, True)
    found = {"the output": outputs.detach(), "the random stream": [stream.cpu] * 2}
    return found | _gradients(losses, parameters)


def _gradients(losses: Tensor, parameters: Mapping[str, Tensor]) -> Found:
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    got = torch.autograd.grad(losses.sum(), list(trained.values()), allow_unused=True)
    found = dict(zip(trained, got, strict=True))
    none = [None] * 2
    return {
        f"the gradient of {name}": none if found.get(name) is None else found[name]
        for name in parameters
    }


def _difference(
    alone: Callable[[], Found], together: Callable[[], Found], device: Any
) -> str | None:
    """What differs between two models together and separately, or what failed; None if equal."""
    with untouched(device):
        own = alone()
        try:
            stacked = together()
        except Exception as error:  # torch raises whatever an unsupported operation raises
            return f"its forward or loss cannot be vmapped ({_first_line(error)})"
    for model in range(2):
        values = {name: pair[model] for name, pair in own.items()}
        scale = max(_size(v) for v in values.values() if v is not None and v.is_floating_point())
        for name, value in values.items():
            got = stacked[name][model]
            if (got is None) != (value is None):
                return f"{name} has a gradient on one side only"
            if value is not None and value.is_sparse:
                return f"{name} is sparse"
            if value is not None and not _close(got, value, scale):
                return f"{name} differs between the stack and a model alone"
    return None


def _close(got: Tensor, value: Tensor, scale: float) -> bool:
    """Equal up to rounding, which may leave tiny multiples of ``scale`` for a zero gradient."""
    if got.shape != value.shape:
        return False
    if not value.is_floating_point():
        return torch.equal(got, value)
    tolerance = 1e3 * torch.finfo(value.dtype).eps
    return torch.allclose(got, value, rtol=tolerance, atol=tolerance * scale)


def _size(tensor: Tensor) -> float:
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def bytes_per_net(estimator: NeuralNet, data: Data, length: int) -> int:
    """Bytes of a stacked net in training: state, activations and batch."""
    stack = initial_stack(estimator, [0])
    batch = tree_map(lambda t: t[:length], data)
    stack.net._set_training(True)  # noqa: SLF001  skorch has no other name
    with untouched(estimator.device or "cpu"), count_saved_bytes() as saved:
        stack.loss(*batch)
    parameters, buffers = (_bytes(list(d.values())) for d in (stack.parameters, stack.buffers))
    return 6 * parameters + 3 * saved.total + 2 * _bytes(batch) + buffers


def bytes_per_run(task: Task, inputs: Any, n_inputs: int, length: int) -> int:
    """Bytes of a run in training: parameters, optimizer, activations and batch.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensor
        Inputs of some examples, which are measured.
    n_inputs : int
        Number of these examples.
    length : int
        Number of examples in a batch.

    Returns
    -------
    int
    """
    stack = TaskStack(task, together=False)
    stack.train_mode()
    with untouched(task.device), count_saved_bytes() as saved:
        stack.outputs(stack.initial(1), inputs, True, RandomStream.capture(task.device))
    parameters = _bytes(list(task.parameters.values()))
    return max(1, 8 * parameters + (3 * saved.total + 2 * _bytes(inputs)) * length // n_inputs)


def _bytes(tree: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(tree))
