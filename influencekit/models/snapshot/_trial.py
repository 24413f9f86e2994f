"""A first try of a Task on data: the snapshot is the model, and one example can be run alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from skorch import NeuralNet
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError, warn_user
from influencekit.models._task import Task
from influencekit.models.snapshot._kept import Attributes
from influencekit.models.snapshot._repeats import (
    State,
    are_finite,
    check_outputs,
    check_repeats,
)
from influencekit.utils._torch import (
    count_rows,
    has_reentrant_checkpoints,
    plain_kernels,
    reaches_all,
    select_rows,
    with_gradients,
)

__all__ = ["idle_parameters", "try_task", "were_finite"]

_TRIED: WeakSet[Task] = WeakSet()
#: Examples whose outputs were finite, and the module as it was then.
_FINITE: WeakKeyDictionary[Task, tuple[Any, State]] = WeakKeyDictionary()


@with_gradients
def try_task(task: Task, inputs: Callable[[int], Any]) -> Tensor | None:
    """Try a torch model on its first examples, once.

    Parameters
    ----------
    task : Task
        Its ``needs_two`` becomes True if its module loses the axis of a single example, and its
        ``keeps_outputs`` if the module keeps what it computed with gradients.
    inputs : callable
        ``inputs(k)``: the first k examples as a batch.

    Returns
    -------
    outputs : Tensor of shape (1, *output_shape) or None
        Those of the first example, if it was run by itself.

    Raises
    ------
    UnsupportedModelError
        If outputs do not depend on any trainable parameter of the snapshot, depend on tensors of
        the model that it is a copy of, or change from one call to the next.

    Warns
    -----
    InfluenceKitWarning
        If a trainable parameter has no effect on the outputs of the first examples.
    """
    original = task.estimator.__dict__.get("module_") if _is_skorch(task) else task.estimator
    if task in _TRIED or not isinstance(original, nn.Module):
        return None
    _TRIED.add(task)
    pair = _two(inputs(2))
    state = State(task.module)
    before = Attributes(task.module)
    try:
        with plain_kernels(), _Watch(original, task.module) as watch:
            outputs = task.forward(pair)
    except UnsupportedModelError:
        raise
    except Exception:
        return None  # said where the data are read
    if before.holds_a_graph():
        object.__setattr__(task, "keeps_outputs", True)  # a fact that data alone tell
        before.put_back()
    if watch.found:
        raise UnsupportedModelError(
            f"model: the copy of {task.name} that scores are computed from still uses "
            f"{sorted(watch.found)[:3]} of the model itself, so its gradients would be those of "
            "nothing. A function outside the model (a global function or object, a class "
            "attribute) holds the model or its layers. Make it a method of the model's class."
        )
    check_outputs(task, pair, outputs)
    check_repeats(task, pair, outputs, state)
    if are_finite(outputs.detach()) and state.stays():
        _FINITE[task] = pair, state
    alone = _first_alone(task, pair, outputs)
    try:
        idle = idle_parameters(task, outputs, inputs)
    except RuntimeError:  # without a backward pass of this kind: said where gradients are taken
        return alone
    if idle and not has_reentrant_checkpoints(outputs):
        _say_idle(task, idle)
    return alone


def were_finite(task: Task, inputs: Any) -> bool:
    """Whether the outputs of these examples are known to be finite, of the module as it is."""
    pair, state = _FINITE.get(task, (None, None))
    return state is not None and state.stays() and _same(pair, inputs)


def _same(one: Any, other: Any) -> bool:
    """Whether two batches hold the same numbers."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    both = isinstance(one, (tuple, list)) and isinstance(other, (tuple, list))
    return both and len(one) == len(other) and all(map(_same, one, other))


def _is_skorch(task: Task) -> bool:
    return isinstance(task.estimator, NeuralNet)


def _two(inputs: Any) -> Any:
    """A batch of at least two examples."""
    n = count_rows(inputs)
    return inputs if n > 1 else select_rows(inputs, torch.tensor([0, 0]), n)


def _first_alone(task: Task, pair: Any, outputs: Tensor) -> Tensor | None:
    """Outputs of the first example alone; None where ``x.squeeze()`` drops its axis."""
    alone = select_rows(pair, slice(0, 1), count_rows(pair))
    try:
        with torch.no_grad(), plain_kernels():
            single = task.forward(alone)
        lost = single.ndim != outputs.ndim or len(single) != 1
    except (RuntimeError, IndexError, TypeError, ValueError):
        lost = True
    if lost and len(outputs) == count_rows(pair):
        object.__setattr__(task, "needs_two", True)  # a fact that data alone tell
    return None if lost else single


def idle_parameters(task: Task, outputs: Tensor, inputs: Callable[[int], Any]) -> list[str]:
    """Names of the parameters that the outputs of the first examples do not depend on.

    Parameters
    ----------
    task : Task
    outputs : Tensor
        Outputs of the first two examples, with gradients.
    inputs : callable
        ``inputs(k)``: the first k examples as a batch.

    Returns
    -------
    list of str
    """
    idle = _idle(task, outputs)
    if not idle:
        return idle
    with plain_kernels():
        return [name for name in _idle(task, task.forward(inputs(32))) if name in idle]


def _say_idle(task: Task, idle: list[str]) -> None:
    if len(idle) == len(task.parameters):
        raise UnsupportedModelError(
            f"model: no trainable parameter has an effect on the outputs of {task.name}, so every "
            "score would be 0. Its forward runs under no_grad, detaches its result, or uses "
            "weights that are not its own parameters. Give a model whose outputs have gradients."
        )
    more = f" and {len(idle) - 5} more" if len(idle) > 5 else ""
    warn_user(
        f"model: the trainable parameters {idle[:5]}{more} have no effect on the outputs of the "
        f"first examples of {task.name}; their gradients are 0. Freeze what is not used.",
        InfluenceKitWarning,
    )


def _idle(task: Task, outputs: Tensor) -> list[str]:
    names = list(task.parameters)
    if not outputs.requires_grad:
        return names
    wanted = list(task.parameters.values())
    if reaches_all(outputs, wanted):  # known without a backward pass
        return []
    total = outputs.abs().sum() if outputs.is_complex() else outputs.sum()
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    return [name for name, gradient in zip(names, found, strict=True) if gradient is None]


class _Watch(TorchFunctionMode):
    """Notes which tensors of a module are used by torch functions, unless another has them too."""

    def __init__(self, module: nn.Module, other: nn.Module):
        super().__init__()
        shared = {id(t) for _, t in _tensors(other)}
        self.names = {id(t): name for name, t in _tensors(module) if id(t) not in shared}
        self.found: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:  # types has a fixed place
        kwargs = kwargs or {}
        for value in (*args, *kwargs.values()):
            for one in value if isinstance(value, (tuple, list)) else (value,):
                if id(one) in self.names:
                    self.found.add(self.names[id(one)])
        return func(*args, **kwargs)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
