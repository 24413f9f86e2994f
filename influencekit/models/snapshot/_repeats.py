"""Outputs of a model on its first examples: finite, one row each, the same when asked again."""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task
from influencekit.utils._torch import MODULE_LOCK, count_rows, plain_kernels

__all__ = ["State", "are_finite", "check_finite_outputs", "check_outputs", "check_repeats"]

#: Share of the largest output by which two runs of the same examples may differ.
_ROUNDING = 1e-3


def check_outputs(task: Task, inputs: Any, outputs: Tensor) -> None:
    """Refuse outputs that are not numbers with a gradient, or not one row for each example.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensors
        Some examples.
    outputs : Tensor
        The task's outputs for them.

    Raises
    ------
    UnsupportedModelError
    """
    n = count_rows(inputs)
    if outputs.ndim == 0 or len(outputs) != n:
        raise UnsupportedModelError(
            f"model: {task.name} returned outputs of shape {tuple(outputs.shape)} for {n} "
            "examples; accepted is one row for each example, along the first axis. Leave sums "
            "and means over "
            "examples to the loss."
        )
    kind = "complex numbers" if outputs.is_complex() and not task.loss.is_own else ""
    if not outputs.is_floating_point() and not outputs.is_complex():
        kind = "whole numbers" if outputs.dtype != torch.bool else "True and False"
    if kind:
        raise UnsupportedModelError(
            f"model: {task.name} returned {kind} ({outputs.dtype}); accepted are real numbers with "
            "a gradient: logits or predictions, not labels."
        )


@torch.no_grad()
def check_finite_outputs(task: Task, inputs: Any) -> None:
    """Refuse outputs that are NaN or infinity; minus infinity may stand for a class left out.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensors
        Some examples.

    Raises
    ------
    UnsupportedModelError
    """
    if not are_finite(task.forward(inputs)):
        raise UnsupportedModelError(
            f"model: the outputs of {task.name} hold NaN or infinity on the first examples"
            f"{_suspects(task.module)}; accepted are finite numbers. Rescale X as for the model's "
            "training, give a model that trained well, or convert it to torch.float64."
        )


def are_finite(outputs: Tensor) -> bool:
    """Whether outputs hold no NaN and no infinity but minus infinity."""
    if bool(torch.isfinite(outputs.sum())):  # as nearly always, known without copies
        return True
    return not bool((outputs.isnan() | (outputs == float("inf"))).any())


def _suspects(module: nn.Module) -> str:
    """Buffers and frozen parameters that hold NaN or infinity, for a message."""
    buffers = [f"buffer {name!r}" for name, t in module.named_buffers() if _is_bad(t)]
    frozen = [f"parameter {name!r}" for name, p in module.named_parameters() if _is_bad(p)]
    found = buffers + frozen
    return f" (its {', '.join(found[:3])} holds NaN or infinity)" if found else ""


def _is_bad(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())


class State:
    """Which tensors a module has, how often each was changed in place, its parts, modes and hooks.

    Parameters
    ----------
    module : torch.nn.Module
    """

    def __init__(self, module: nn.Module):
        self.module = module
        # a tensor that is replaced must not give its identity to another
        self._tensors = [*module.parameters(), *module.buffers()]
        self._versions = [_version(t) for t in self._tensors]
        self._parts = self._modes()

    def __getstate__(self) -> dict[str, Any]:
        # tensors of a copy count from 0, so that it is looked at again
        return {**vars(self), "_versions": [-1] * len(self._tensors)}

    def _modes(self) -> list[tuple]:
        """Parts with their mode, forward pass and hooks."""
        with MODULE_LOCK:  # a pass in another thread puts hooks that do not count
            return [
                (part, part.training, vars(part).get("forward"), *_hooks(part))
                for part in self.module.modules()
            ]

    def changed(self) -> list[str]:
        """Tensors that are others now."""
        kinds = {
            "parameter": self.module.named_parameters(),
            "buffer": self.module.named_buffers(),
        }
        before = {id(t): version for t, version in zip(self._tensors, self._versions, strict=True)}
        return [
            f"{kind} {name!r}"
            for kind, named in kinds.items()
            for name, t in named
            if before.get(id(t)) != _version(t)
        ]

    def stays(self) -> bool:
        """Whether the module is as it was."""
        with MODULE_LOCK:  # a pass in another thread exchanges its parameters for a while
            now = [*self.module.parameters(), *self.module.buffers()]
            same = len(now) == len(self._tensors) and all(map(is_, now, self._tensors))
            unchanged = same and self._versions == list(map(_version, now))
            return unchanged and self._modes() == self._parts


def _version(tensor: Tensor) -> int:
    return tensor._version  # noqa: SLF001  torch has no other name


def _hooks(part: nn.Module) -> list[tuple]:
    """Hooks of a module, with what they are for."""
    own = ((name, value) for name, value in vars(part).items() if "_hooks" in name and value)
    return [(name, *hooks.items()) for name, hooks in own if isinstance(hooks, dict)]


def check_repeats(task: Task, inputs: Any, outputs: Tensor, state: State) -> None:
    """Refuse a model whose outputs for the same examples change from one call to the next.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensors
    outputs : Tensor
        The task's outputs for them.
    state : State
        State of the module before these outputs were computed.

    Raises
    ------
    UnsupportedModelError
    """
    if not outputs.numel():
        return  # said where targets are compared
    with torch.no_grad(), plain_kernels():
        again = task.forward(inputs)
    if again.shape == outputs.shape and torch.equal(again, outputs):
        return
    scale = float(outputs.detach().abs().nan_to_num(posinf=0.0).max())
    close = again.shape == outputs.shape and torch.allclose(
        again, outputs.detach(), rtol=_ROUNDING, atol=_ROUNDING * scale + 1e-30, equal_nan=True
    )
    if close:
        return
    changed = state.changed()
    cause = (
        f"each call changes its {changed[0]}"
        if changed
        else "it draws random numbers in forward even in eval mode, or counts its calls"
    )
    raise UnsupportedModelError(
        f"model: two calls of {task.name} with the same examples have other outputs: {cause}. "
        "Accepted is a module whose outputs depend on its inputs and weights alone. Make forward "
        "do that in training mode only (if self.training:), or freeze what it changes."
    )
